//! What to change and by how much.

use std::fmt::{self, Write};

use super::Page;
use super::html::{Esc, short};
use crate::advise::Recommendation;

/// Recommendations shown; the rest is in the API.
const ROWS: usize = 30;

pub(super) fn section(page: &Page<'_>, out: &mut String) -> fmt::Result {
    let items = &page.collection.advice.items;
    if items.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<section aria-labelledby=advice><div class=head><h2 id=advice>Advice</h2><p>from the current measures; nothing is \
         applied</p></div><table class=tight><thead><tr><th scope=col>For<th scope=col>Finding<th scope=col>Advice<tbody>",
    )?;
    let mut shown: Vec<&Recommendation> = items.iter().collect();
    shown.sort_by(|a, b| (a.action.domain(), a.subject.name()).cmp(&(b.action.domain(), b.subject.name())));
    for item in shown.iter().take(ROWS) {
        row(item, out)?;
    }
    out.write_str("</table>")?;
    let more = items.len().saturating_sub(ROWS);
    if more > 0 {
        write!(out, "<p class=note>and {more} more: <a href=\"/api/v1/recommendations\">all as JSON</a></p>")?;
    }
    out.write_str("</section>")
}

fn row(item: &Recommendation, out: &mut String) -> fmt::Result {
    let name = short(item.subject.name(), 60);
    let domain = item.action.domain().name();
    write!(
        out,
        "<tr><td class=name><b>{}</b><span class=sub>{domain}</span><td data-label=Finding>{}<td data-label=Advice>{}\
         <span class=sub>{}</span>",
        Esc(&name),
        Esc(&short(&item.finding, 300)),
        Esc(&short(&item.advice, 300)),
        item.action.name()
    )
}
