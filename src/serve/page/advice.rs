//! What to change and by how much.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;

use super::html::{self, Esc, short};
use super::{Page, View};
use crate::advise::Recommendation;
use crate::snapshot::ContainerFacts;

/// Recommendations shown unless all are asked for.
const ROWS: usize = 8;

/// Of the containers that are shown, and without a search of the machine, too.
pub(super) fn section(page: &Page<'_>, found: &[&ContainerFacts], out: &mut String) -> fmt::Result {
    let found: HashSet<_> = found.iter().map(|f| Arc::as_ptr(&f.container)).collect();
    let concerns = |item: &&Recommendation| {
        let members = item.subject.members();
        if members.is_empty() {
            return page.view.search.is_empty();
        }
        members.iter().any(|m| found.contains(&Arc::as_ptr(&m.container)))
    };
    let mut shown: Vec<&Recommendation> = page.collection.advice.items.iter().filter(concerns).collect();
    if shown.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<section aria-labelledby=advice><div class=head><h2 id=advice>Advice</h2><p>from the current measures; nothing is \
         applied</p></div><table class=\"tight advice\"><thead><tr><th scope=col>For<th scope=col>Finding<th scope=col>Advice<tbody>",
    )?;
    shown.sort_by(|a, b| (a.action.domain(), a.subject.name()).cmp(&(b.action.domain(), b.subject.name())));
    let rows = if page.view.all { shown.len() } else { ROWS };
    for item in shown.iter().take(rows) {
        row(item, out)?;
    }
    out.write_str("</table>")?;
    let more = shown.len().saturating_sub(rows);
    if more > 0 {
        let all = View { all: true, ..page.view.clone() }.href();
        write!(
            out,
            "<p class=note><a href=\"{all}\">Show {more} more</a> or <a href=\"/api/v1/recommendations\">all as JSON</a></p>"
        )?;
    }
    out.write_str("</section>")
}

fn row(item: &Recommendation, out: &mut String) -> fmt::Result {
    let name = html::name(item.subject.name());
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
