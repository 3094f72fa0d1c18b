//! What the fuzz target `configuration` tries of the web configuration.

use super::file;

/// The text of a web configuration file.
pub fn parse(text: &str) {
    if let Err(e) = file::parse(text, "web.yml".as_ref()) {
        assert!(!e.to_string().is_empty(), "a file that is refused has a reason");
    }
}
