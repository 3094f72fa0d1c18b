//! What waits for the receiver: bounded, the oldest goes first.

use std::collections::VecDeque;

use bytes::Bytes;

/// A request as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub body: Bytes,
    /// Data points or spans in it.
    pub items: u64,
}

#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Packed>,
    bytes: usize,
    limit: usize,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds a request; returns the items of older ones that had to go for it. One alone always finds room.
    pub fn push(&mut self, packed: Packed) -> u64 {
        let mut dropped = 0;
        while self.bytes + packed.body.len() > self.limit
            && let Some(oldest) = self.pop()
        {
            dropped += oldest.items;
        }
        self.bytes += packed.body.len();
        self.waiting.push_back(packed);
        dropped
    }

    pub fn front(&self) -> Option<&Packed> {
        self.waiting.front()
    }

    pub fn pop(&mut self) -> Option<Packed> {
        let packed = self.waiting.pop_front()?;
        self.bytes -= packed.body.len();
        Some(packed)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn items(&self) -> u64 {
        self.waiting.iter().map(|p| p.items).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let packed = |n: usize, items| Packed { body: Bytes::from(vec![0; n]), items };
        let mut queue = Queue::new(10);
        assert_eq!((queue.push(packed(4, 1)), queue.push(packed(4, 2)), queue.push(packed(4, 3))), (0, 0, 1));
        assert_eq!(queue.front().map(|p| p.items), Some(2));
        assert_eq!(queue.push(packed(50, 4)), 5, "one that is too large for all goes alone");
        assert_eq!((queue.len(), queue.bytes), (1, 50));
        assert_eq!(queue.push(packed(1, 5)), 4);
        assert_eq!((queue.len(), queue.bytes, queue.items()), (1, 1, 5));
        queue.pop();
        assert_eq!((queue.pop(), queue.is_empty(), queue.bytes), (None, true, 0));
    }
}
