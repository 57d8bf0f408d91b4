//! Lists on several pages, and the choices of a filter.

use maud::{Markup, html};

use crate::operate::serve::{ask::Ask, words::Words};

/// The number of items, and links to the pages before and after this one.
pub(super) fn pager(ask: &Ask, total: u64, per_page: u64, words: &Words) -> Markup {
    let (page, pages) = (ask.page(), total.div_ceil(per_page).max(1));
    let to = |page: u64| ask.query.with("page", page.to_string().as_bytes());
    let (first, last) = ((page * per_page + 1).min(total), ((page + 1) * per_page).min(total));
    html! {
        div.pager {
            span.note { bdi dir="ltr" { (first) "–" (last) } " " (words.of) " " bdi { (total) } }
            @if pages > 1 {
                nav aria-label=(words.pages) {
                    ul {
                        @if page > 0 { li { a rel="prev" href=(to(page)) { (words.previous) } } }
                        @if page + 1 < pages { li { a rel="next" href=(to(page + 2)) { (words.next) } } }
                    }
                }
            }
        }
    }
}

/// A choice of a filter: a value with its name for each option, and `all`.
pub(super) fn choice(
    ask: &Ask,
    name: &str,
    label: &str,
    options: &[(String, String)],
    words: &Words,
) -> Markup {
    let chosen = ask.query.text(name);
    html! {
        label {
            (label)
            select name=(name) {
                option value="" { (words.all) }
                @for (value, text) in options {
                    option value=(value) selected[chosen == Some(value.as_str())] { (text) }
                }
            }
        }
    }
}

/// Values that are their own names, sorted.
pub(super) fn plain(values: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let mut values: Vec<String> = values.into_iter().collect();
    values.sort();
    values.dedup();
    values.into_iter().map(|value| (value.clone(), value)).collect()
}
