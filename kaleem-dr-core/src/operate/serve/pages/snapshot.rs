//! A snapshot and what is in it, directory by directory.

use std::path::{Component, Path, PathBuf};

use maud::{Markup, html};

use super::{pager, view};
use crate::{
    engine::repository::Snapshot,
    operate::serve::{
        ask::{Ask, Query},
        files::{Directory, PAGE},
        layout::{Content, Fault, View, code_in},
        show::{self, maybe},
        state::Shared,
        words::Words,
    },
};

pub(super) async fn content(state: &Shared, ask: &Ask, id: &str) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let (overview, seen) = view(state, words).await?;
    let of = |snapshot: &&Snapshot| snapshot.id().to_string() == id;
    let snapshot = overview.snapshots.iter().find(of).ok_or_else(Fault::missing)?;
    let path = ask.query.path("path").unwrap_or_else(|| PathBuf::from("/"));
    let listed = state.files.list(&overview, id, &path, ask.page().saturating_mul(PAGE)).await?;
    let directory = listed.ok_or_else(|| Fault::unavailable(words.too_slow))?;
    let body = html! {
        (facts(snapshot, words))
        h2 #files { (words.files) }
        (crumbs(&path, words))
        @if !directory.damaged.is_empty() {
            div.verdict.bad role="alert" {
                strong { (words.damaged) }
                ul lang="en" { @for why in &directory.damaged { li { (show::name(why)) } } }
            }
        }
        (table(&directory, words))
        (pager::pager(ask, directory.total, PAGE, words))
    };
    let title = format!("{} {}", words.snapshot, snapshot.id().short());
    Ok(Content { view: View::Points, title, body, seen: Some(seen) })
}

fn facts(snapshot: &Snapshot, words: &Words) -> Markup {
    let restore = snapshot
        .source()
        .map(|source| format!("`kaleem-dr restore {source} --snapshot {}`", snapshot.id().short()));
    html! {
        dl.facts {
            div { dt { (words.source) } dd { (show::name(&snapshot.maker())) } }
            div { dt { (words.time) } dd { (show::time(snapshot.time().timestamp())) } }
            div { dt { (words.host) } dd { (show::name(snapshot.host())) } }
            div { dt { (words.size) } dd { (maybe(snapshot.size_bytes(), show::size)) } }
            div { dt { (words.added) } dd { (maybe(snapshot.added_bytes(), show::size)) } }
            @if let Some(run) = snapshot.run() { div { dt { (words.run) } dd { a href={ "/history/" (run) } { code dir="ltr" { (run) } } } } }
            @if let Some(restore) = &restore { div.long { dt { (words.to_restore) } dd { (code_in(restore)) } } }
            div.long { dt { (words.tags) } dd { bdi dir="ltr" { (show::name(&snapshot.tags().join(", "))) } } }
        }
    }
}

/// A link to a path in the same snapshot.
fn link(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    format!("{}#files", Query::default().with("path", path.as_os_str().as_bytes()))
}

fn crumbs(path: &Path, words: &Words) -> Markup {
    let mut above: Vec<(PathBuf, PathBuf)> = Vec::new();
    for component in path.components() {
        if let Component::Normal(name) = component {
            let parent = above.last().map_or_else(|| PathBuf::from("/"), |(path, _)| path.clone());
            above.push((parent.join(name), name.into()));
        }
    }
    html! {
        nav aria-label=(words.path) {
            ol.crumbs {
                li { a href=(link(Path::new("/"))) aria-current=[above.is_empty().then_some("page")] { (words.root) } }
                @for (at, (path, name)) in above.iter().enumerate() {
                    li { a href=(link(path)) aria-current=[(at + 1 == above.len()).then_some("page")] { (show::path(name)) } }
                }
            }
        }
    }
}

fn table(directory: &Directory, words: &Words) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-labelledby="files" {
            table {
                thead { tr { @for title in [words.name, words.size, words.permissions, words.owner, words.changed] { th scope="col" { (title) } } } }
                tbody {
                    @for row in &directory.rows {
                        @let name = row.path.file_name().map_or(row.path.as_path(), Path::new);
                        tr {
                            th scope="row" {
                                @if row.entry.kind == "dir" { a href=(link(&row.path)) { bdi dir="ltr" { (show::path(name)) "/" } } }
                                @else { (show::path(name)) }
                                @if let Some(target) = &row.entry.linktarget { span.note { " → " (show::name(target)) } }
                            }
                            td.number { (maybe(row.entry.size, show::size)) }
                            td { code dir="ltr" { (row.entry.permissions) } }
                            td { (owner(row.entry.user.as_deref(), row.entry.uid)) ":" (owner(row.entry.group.as_deref(), row.entry.gid)) }
                            td { (maybe(row.entry.mtime, show::time)) }
                        }
                    }
                }
            }
        }
    }
}

fn owner(name: Option<&str>, id: Option<u32>) -> Markup {
    html! {
        @match (name, id) { (Some(name), _) => (show::name(name)), (None, Some(id)) => (id), (None, None) => "–" }
    }
}
