//! Points → requests of bounded size: Resource → scope → metric → points, each opened again where a cut falls.

use crate::expose::wire::{bytes, string, tag, varint};

/// One `Export…ServiceRequest`, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub bytes: Vec<u8>,
    /// Data points or spans in it.
    pub items: u64,
}

pub const SCOPE: &str = env!("CARGO_PKG_NAME");
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Begins a field of so many bytes. Lengths are reckoned beforehand: to put them in afterwards would move megabytes.
fn begin(out: &mut Vec<u8>, field: u64, length: usize) {
    tag(out, field, 2);
    varint(out, length as u64);
}

/// What a field of so many bytes takes; its number is below 16.
fn field_length(bytes: usize) -> usize {
    1 + length_of_varint(bytes) + bytes
}

pub fn length_of_varint(n: usize) -> usize {
    (n.max(1).ilog2() / 7 + 1) as usize
}

pub struct Requests<'s> {
    max_bytes: usize,
    send: &'s mut dyn FnMut(Request) -> bool,
    /// Nobody takes any more.
    refused: bool,
    out: Vec<u8>,
    items: u64,
    resource: Vec<u8>,
    metrics: Vec<u8>,
    metric: Metric,
    points: Vec<u8>,
    /// The point being written.
    point: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
struct Metric {
    heading: &'static [u8],
    ending: &'static [u8],
    field: u64,
}

/// Bytes that tags and lengths around a point may take, besides what is counted.
const MARGIN: usize = 128;

impl<'s> Requests<'s> {
    pub fn new(max_bytes: usize, send: &'s mut dyn FnMut(Request) -> bool) -> Self {
        Self {
            max_bytes,
            send,
            refused: false,
            out: Vec::new(),
            items: 0,
            resource: Vec::new(),
            metrics: Vec::new(),
            metric: Metric::default(),
            points: Vec::new(),
            point: Vec::new(),
        }
    }

    /// What follows is about this Resource.
    pub fn resource(&mut self, resource: Vec<u8>) {
        self.close_resource();
        self.resource = resource;
    }

    /// What follows are points of this metric: its fields before the data, the data's fields after the points, and the
    /// field that the data is.
    pub fn metric(&mut self, heading: &'static [u8], ending: &'static [u8], field: u64) {
        self.close_metric();
        self.metric = Metric { heading, ending, field };
    }

    pub fn point(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.refused {
            return;
        }
        let mut point = std::mem::take(&mut self.point);
        point.clear();
        write(&mut point);
        let held = [&self.out, &self.resource, &self.metrics, &self.points, &point].map(Vec::len).iter().sum::<usize>();
        if held + self.metric.heading.len() + MARGIN > self.max_bytes {
            self.cut();
        }
        bytes(&mut self.points, 1, &point);
        self.items += 1;
        self.point = point;
    }

    pub fn finish(mut self) {
        self.cut();
    }

    fn close_metric(&mut self) {
        if self.points.is_empty() {
            return;
        }
        let Metric { heading, ending, field } = self.metric;
        let data = self.points.len() + ending.len();
        let out = &mut self.metrics;
        begin(out, 2, heading.len() + field_length(data));
        out.extend_from_slice(heading);
        begin(out, field, data);
        out.extend_from_slice(&self.points);
        out.extend_from_slice(ending);
        self.points.clear();
    }

    fn close_resource(&mut self) {
        self.close_metric();
        if self.metrics.is_empty() {
            return;
        }
        let scope = field_length(SCOPE.len()) + field_length(VERSION.len());
        let scoped = field_length(scope) + self.metrics.len();
        let out = &mut self.out;
        begin(out, 1, field_length(self.resource.len()) + field_length(scoped));
        bytes(out, 1, &self.resource);
        begin(out, 2, scoped);
        begin(out, 1, scope);
        string(out, 1, SCOPE);
        string(out, 2, VERSION);
        out.extend_from_slice(&self.metrics);
        self.metrics.clear();
    }

    fn cut(&mut self) {
        self.close_resource();
        if self.items > 0 && !self.refused {
            let request = Request { bytes: std::mem::take(&mut self.out), items: self.items };
            self.refused = !(self.send)(request);
        }
        self.out.clear();
        self.items = 0;
    }
}
