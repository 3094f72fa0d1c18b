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
