//! Where the writing of a collection stands.

use super::Format;
use super::protobuf;
use super::text::{Dialect, Text};
use crate::catalog::FamilyId;
use crate::sample::Samples;

/// Writes a collection piece by piece, each time as much as is wanted. It must be given the same samples every time.
#[derive(Debug)]
pub struct Cursor {
    writer: Writer,
    family: usize,
    row: usize,
    ended: bool,
}

#[derive(Debug)]
enum Writer {
    Text(Text),
    Protobuf,
}

impl Cursor {
    pub fn new(format: Format) -> Self {
        let writer = match format {
            Format::Text | Format::Text1 => Writer::Text(Text::new(Dialect::Classic)),
            Format::OpenMetricsDraft | Format::OpenMetrics => Writer::Text(Text::new(Dialect::OpenMetrics)),
            Format::Protobuf => Writer::Protobuf,
        };
        Self { writer, family: 0, row: 0, ended: false }
    }

    /// Appends until `out` holds at least `upto` bytes or everything is written; returns whether there is more.
    /// Text stops at the next sample, protobuf at the next family: the length of one comes before it.
    pub fn fill(&mut self, samples: &Samples, out: &mut Vec<u8>, upto: usize) -> bool {
        while out.len() < upto {
            let Some(family) = FamilyId::from_index(self.family) else {
                if let Writer::Text(text) = &self.writer {
                    text.end(out);
                }
                self.ended = true;
                break;
            };
            let table = samples.table(family);
            if !table.is_empty() {
                match &mut self.writer {
                    Writer::Text(text) => self.row = text.rows(samples, family, self.row, out, upto),
                    Writer::Protobuf => {
                        protobuf::family(samples, family, out);
                        self.row = table.len();
                    }
                }
            }
            if self.row == table.len() {
                self.family += 1;
                self.row = 0;
            }
        }
        !self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use crate::sample::Entity;

    #[test]
    fn pieces_of_any_size_are_the_whole() {
        let mut samples = Samples::new();
        for code in ["200", "404"] {
            samples.push_with(catalog::HTTP_REQUESTS, Entity::NONE, &[("handler", "metrics"), ("code", code)], 1.0);
        }
        samples.push_with(catalog::MACHINE_MEMORY, Entity::NONE, &[], 2.0);
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let mut whole = Vec::new();
            assert!(!Cursor::new(format).fill(&samples, &mut whole, usize::MAX));
            for upto in 1..=whole.len() {
                let (mut cursor, mut all) = (Cursor::new(format), Vec::new());
                loop {
                    let mut piece = Vec::new();
                    let more = cursor.fill(&samples, &mut piece, upto);
                    all.extend_from_slice(&piece);
                    if !more {
                        break;
                    }
                }
                assert_eq!(String::from_utf8_lossy(&all), String::from_utf8_lossy(&whole), "{format:?} by {upto}");
            }
        }
    }
}
