//! Points → requests of bounded size: Resource → scope → metric → points, each opened again where a cut falls.

use crate::expose::wire::{bytes, message, string};

/// One `Export…ServiceRequest`, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub bytes: Vec<u8>,
    /// Data points or spans in it.
    pub items: u64,
}

pub const SCOPE: &str = env!("CARGO_PKG_NAME");

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

#[derive(Default)]
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
        let (metric, points) = (&self.metric, &mut self.points);
        message(&mut self.metrics, 2, |out| {
            out.extend_from_slice(metric.heading);
            points.extend_from_slice(metric.ending);
            bytes(out, metric.field, points);
        });
        self.points.clear();
    }

    fn close_resource(&mut self) {
        self.close_metric();
        if self.metrics.is_empty() {
            return;
        }
        let (resource, metrics) = (&self.resource, &self.metrics);
        message(&mut self.out, 1, |out| {
            bytes(out, 1, resource);
            message(out, 2, |out| {
                message(out, 1, |out| {
                    string(out, 1, SCOPE);
                    string(out, 2, env!("CARGO_PKG_VERSION"));
                });
                out.extend_from_slice(metrics);
            });
        });
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
