//! Lists the content of a database: its collections with their options, and their indexes.
//!
//! A listing is complete or an error. It omits what mongodump omits: system collections (except
//! stored JavaScript), names with `$`, and the internal parts of `admin` and `config`.

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use kaleem_dr_core::ground::{SourceError, digest::ByteDigest};

use super::{
    connection::Connection,
    error::{code, codes},
};
use crate::mongodb::{
    config::{MongoConfig, MongoConfigError},
    names,
};

/// Means all databases.
pub(crate) const ALL: &str = "*";

/// The prefix under which servers before 8.3 store the data of a time-series collection.
pub(crate) const BUCKETS: &str = "system.buckets.";

/// A collection, a view or a time series, with everything needed to recreate it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CollectionSpec {
    pub(crate) database: String,
    pub(crate) name: String,
    pub(crate) kind: CollectionKind,
    /// In the form for `create`.
    pub(crate) options: Document,
    /// As returned by `listIndexes`, including the one on `_id`. Empty for views.
    pub(crate) indexes: Vec<Document>,
    /// 32 hex digits. `None` for views.
    pub(crate) uuid: Option<String>,
}

impl CollectionSpec {
    /// `database.collection`
    pub(crate) fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// Reports whether documents stay in insertion order, and this order is significant.
    pub(crate) fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }

    /// Reports whether two listings show the same collection, and not another one with the same
    /// name.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.database == other.database
            && self.name == other.name
            && self.kind == other.kind
            && self.uuid == other.uuid
    }
}

/// The kind of object that a name in a database refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CollectionKind {
    Collection,
    View,
    TimeSeries,
}

impl CollectionKind {
    /// The word used by `listCollections`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::View => "view",
            Self::TimeSeries => "timeseries",
        }
    }

    /// The word for messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::TimeSeries => "time series",
            other => other.as_str(),
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Collection, Self::View, Self::TimeSeries]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// The databases and collections that a source captures.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    databases: Databases,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

#[derive(Clone, Debug)]
enum Databases {
    All,
    Named(Vec<String>),
}

/// Globs over `collection` or `database.collection`.
#[derive(Clone, Debug)]
pub(crate) struct Patterns {
    set: GlobSet,
    written: Vec<String>,
}

impl Patterns {
    /// Compiles patterns; `None` if there are none.
    pub(crate) fn new(patterns: &[String]) -> Result<Option<Self>, MongoConfigError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let malformed =
            |pattern: &str, cause| MongoConfigError::Pattern { pattern: pattern.to_owned(), cause };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(GlobBuilder::new(pattern).build().map_err(|cause| malformed(pattern, cause))?);
        }
        let set = set.build().map_err(|cause| malformed(&patterns.join(", "), cause))?;
        Ok(Some(Self { set, written: patterns.to_vec() }))
    }

    pub(crate) fn matches(&self, spec: &CollectionSpec) -> bool {
        self.set.is_match(&spec.name) || self.set.is_match(spec.namespace())
    }

    /// The patterns that match none of these collections: a misspelt name, or a collection that no
    /// longer exists.
    pub(crate) fn unmatched<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a CollectionSpec>,
    ) -> Vec<String> {
        let mut matched = vec![false; self.written.len()];
        for spec in specs {
            for at in
                self.set.matches(&spec.name).into_iter().chain(self.set.matches(spec.namespace()))
            {
                matched[at] = true;
            }
        }
        self.written
            .iter()
            .zip(matched)
            .filter(|(_, matched)| !matched)
            .map(|(pattern, _)| pattern.clone())
            .collect()
    }
}

impl Scope {
    /// The scope of a config; `default_database` is the one in the path of the connection string.
    pub(crate) fn new(
        config: &MongoConfig,
        default_database: Option<&str>,
    ) -> Result<Self, MongoConfigError> {
        let mut databases = config.databases.clone();
        if databases.iter().any(|name| name == ALL) && databases.len() > 1 {
            return Err(MongoConfigError::NotOnlyAll);
        }
        if databases.is_empty() {
            databases.push(default_database.ok_or(MongoConfigError::NoDatabase)?.to_owned());
        }
        databases.sort();
        databases.dedup();
        if config.oplog
            && (databases != [ALL]
                || !config.collections.is_empty()
                || !config.exclude_collections.is_empty())
        {
            return Err(MongoConfigError::OplogNeedsAll);
        }
        let databases =
            if databases == [ALL] { Databases::All } else { Databases::Named(databases) };
        Ok(Self {
            databases,
            include: Patterns::new(&config.collections)?,
            exclude: Patterns::new(&config.exclude_collections)?,
        })
    }

    /// Identifies the selection: 16 hex digits that are equal for equal databases and patterns.
    pub(crate) fn fingerprint(&self) -> String {
        let patterns = |patterns: &Option<Patterns>| {
            patterns.as_ref().map(|patterns| patterns.written.clone()).unwrap_or_default()
        };
        let selection =
            format!("{:?}", (&self.databases, patterns(&self.include), patterns(&self.exclude)));
        ByteDigest::of(selection.as_bytes())[..16].to_owned()
    }

    /// Reports whether a capture includes this collection, unless it is internal to the server.
    pub(crate) fn takes(&self, spec: &CollectionSpec) -> bool {
        self.include.as_ref().is_none_or(|patterns| patterns.matches(spec))
            && !self.exclude.as_ref().is_some_and(|patterns| patterns.matches(spec))
    }

    /// Reports whether a capture includes a collection of this name, and it is not internal to the server.
    pub(crate) fn takes_name(&self, database: &str, name: &str) -> bool {
        let spec = CollectionSpec {
            database: database.to_owned(),
            name: name.to_owned(),
            kind: CollectionKind::Collection,
            options: Document::new(),
            indexes: Vec::new(),
            uuid: None,
        };
        self.takes_database(database) && !is_the_servers_own(database, name) && self.takes(&spec)
    }

    /// Reports whether a capture includes all or a part of a database.
    pub(crate) fn takes_database(&self, database: &str) -> bool {
        match &self.databases {
            Databases::Named(names) => names.iter().any(|named| named == database),
            Databases::All => !is_left_out(database),
        }
    }

    /// Patterns of `collections` that none of these collections matches.
    pub(crate) fn unmatched(&self, specs: &[CollectionSpec]) -> Vec<String> {
        self.include.as_ref().map(|include| include.unmatched(specs)).unwrap_or_default()
    }

    /// The databases to capture: those in the config, or all that exist and are not internal.
    pub(crate) async fn databases(
        &self,
        connection: &Connection,
    ) -> Result<Vec<String>, SourceError> {
        match &self.databases {
            Databases::Named(names) => Ok(names.clone()),
            Databases::All => {
                let mut names = list_databases(connection, Shown::All).await?;
                names.retain(|name| !is_left_out(name));
                names.sort();
                Ok(names)
            }
        }
    }

    /// The databases in the config. If one of them has no collections, its name is misspelt; with
    /// `["*"]` that is normal.
    pub(crate) fn named(&self) -> &[String] {
        match &self.databases {
            Databases::Named(names) => names,
            Databases::All => &[],
        }
    }

    /// Lists the collections to capture, without indexes, sorted by name.
    pub(crate) async fn list(
        &self,
        connection: &Connection,
    ) -> Result<Vec<CollectionSpec>, SourceError> {
        let mut all = Vec::new();
        for database in self.databases(connection).await? {
            all.extend(
                list_database(connection, &database)
                    .await?
                    .into_iter()
                    .filter(|spec| !is_the_servers_own(&database, &spec.name) && self.takes(spec)),
            );
        }
        all.sort_by_key(CollectionSpec::namespace);
        Ok(all)
    }
}

/// Which databases to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All that exist; an error if the user may not see all.
    All,
    /// Those that the user may access.
    Own,
}

/// Lists the names of databases.
pub(crate) async fn list_databases(
    connection: &Connection,
    shown: Shown,
) -> Result<Vec<String>, SourceError> {
    let action = "list its databases";
    let mut command = doc! { "listDatabases": 1, "nameOnly": true };
    if shown == Shown::All {
        // By default, a server silently omits databases that the user may not read.
        command.insert("authorizedDatabases", false);
    }
    let reply = connection.run("admin", command, action).await?;
    let listed = reply
        .get_array("databases")
        .map_err(|_| connection.odd_answer(action, "it listed no databases"))?;
    listed
        .iter()
        .map(|database| {
            database
                .as_document()
                .and_then(|database| database.get_str("name").ok())
                .map(str::to_owned)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| connection.odd_answer(action, "it listed a database without a name"))
}

/// Reports whether `["*"]` omits this database: an internal one, or one created by our rehearsals.
fn is_left_out(database: &str) -> bool {
    database == "local"
        || database.starts_with("__mdb_internal")
        || database.starts_with(names::SCRATCH)
}

/// Lists everything in a database, without indexes.
pub(crate) async fn list_database(
    connection: &Connection,
    database: &str,
) -> Result<Vec<CollectionSpec>, SourceError> {
    let action = format!("list the collections of {database}");
    let listed = connection.list(database, doc! { "listCollections": 1 }, &action).await?;
    listed
        .into_iter()
        .map(|listed| spec(database, listed).map_err(|why| connection.odd_answer(&action, why)))
        .collect()
}

/// Lists the indexes of one collection, including the one on `_id`; `None` if no collection has this name. A view has none.
pub(crate) async fn list_indexes(
    connection: &Connection,
    spec: &CollectionSpec,
) -> Result<Option<Vec<Document>>, SourceError> {
    if spec.kind == CollectionKind::View {
        return Ok(Some(Vec::new()));
    }
    let action = format!("list the indexes of {}", spec.namespace());
    let database = connection.client().await?.database(&spec.database);
    let listing = async {
        let cursor = database.run_cursor_command(doc! { "listIndexes": &spec.name }).await;
        Ok(match cursor {
            Ok(cursor) => cursor.try_collect().await,
            Err(error) => Err(error),
        })
    };
    match connection.answer(&action, listing).await? {
        Ok(indexes) => Ok(Some(indexes)),
        Err(error) if code(&error) == Some(codes::NAMESPACE_NOT_FOUND) => Ok(None),
        Err(error) => Err(connection.error(&action, &error)),
    }
}

/// A collection as returned by `listCollections`.
///
/// # Errors
/// The reason, if it has no name or is of an unknown type.
pub(crate) fn spec(database: &str, mut listed: Document) -> Result<CollectionSpec, String> {
    let name =
        listed.get_str("name").map_err(|_| "it listed a collection without a name")?.to_owned();
    let kind = listed.get_str("type").unwrap_or("collection");
    let kind = CollectionKind::parse(kind)
        .ok_or_else(|| format!("{name} has the unknown type `{kind}`"))?;
    let uuid = match listed.get_document("info").ok().and_then(|info| info.get("uuid")) {
        Some(Bson::Binary(uuid)) => {
            uuid.to_uuid().ok().map(|uuid| uuid.to_string().replace('-', ""))
        }
        _ => None,
    };
    let options = match listed.remove("options") {
        Some(Bson::Document(options)) => options,
        _ => Document::new(),
    };
    Ok(CollectionSpec {
        database: database.to_owned(),
        name,
        kind,
        options,
        indexes: Vec::new(),
        uuid,
    })
}

/// Reports whether a collection is internal to the server, which a dump omits (mongodump,
/// shouldSkipSystemNamespace).
pub(crate) fn is_the_servers_own(database: &str, name: &str) -> bool {
    if name.contains('$') {
        return true;
    }
    match database {
        "local" => true,
        // These seven describe a cluster; the others are the servers' own records.
        "config" => !matches!(
            name,
            "chunks" | "collections" | "databases" | "settings" | "shards" | "tags" | "version"
        ),
        // Also in `admin`, which mongodump includes: users and roles are captured separately, and
        // the server's version document must never be put into another server.
        _ => name.starts_with("system.") && name != "system.js",
    }
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;

    fn collection(namespace: &str) -> CollectionSpec {
        let (database, name) = namespace.split_once('.').unwrap();
        CollectionSpec {
            database: database.into(),
            name: name.into(),
            kind: CollectionKind::Collection,
            options: doc! {},
            indexes: vec![],
            uuid: None,
        }
    }

    #[test]
    fn the_servers_own_collections_are_left_out_and_stored_javascript_is_not() {
        for (database, name, own) in [
            ("kaleem", "users", false),
            ("kaleem", "system.js", false),
            ("kaleem", "system.views", true),
            ("kaleem", "system.buckets.weather", true),
            ("kaleem", "a$b", true),
            ("admin", "own", false),
            ("admin", "system.users", true),
            ("admin", "system.version", true),
            ("admin", "system.keys", true),
            ("config", "transactions", true),
            ("config", "cache.chunks.x", true),
            ("config", "settings", false),
            ("local", "oplog.rs", true),
        ] {
            assert_eq!(is_the_servers_own(database, name), own, "{database}.{name}");
        }
    }

    #[test]
    fn patterns_match_bare_and_full_names_and_those_that_match_nothing_are_reported() {
        let mut config = MongoConfig::new(SecretRef::Env("M".into()));
        config.collections = vec!["user*".into(), "kaleem.orders".into(), "ghost".into()];
        config.exclude_collections = vec!["*.users_tmp".into()];
        let scope = Scope::new(&config, Some("kaleem")).unwrap();
        let taken = |name: &str| scope.takes(&collection(name));
        assert!(taken("kaleem.users") && taken("kaleem.orders") && taken("other.users"));
        assert!(!taken("kaleem.users_tmp") && !taken("other.orders"));
        assert_eq!(
            scope.unmatched(&[collection("kaleem.users"), collection("kaleem.orders")]),
            ["ghost"]
        );
    }

    #[test]
    fn without_a_database_there_is_no_scope() {
        let config = MongoConfig::new(SecretRef::Env("M".into()));
        assert!(matches!(Scope::new(&config, None), Err(MongoConfigError::NoDatabase)));
        assert_eq!(Scope::new(&config, Some("kaleem")).unwrap().named(), ["kaleem"]);
    }

    #[test]
    fn all_databases_are_all_but_the_servers_own_and_exclude_other_names() {
        let mut config = MongoConfig::new(SecretRef::Env("M".into()));
        config.databases = vec!["*".into()];
        assert!(Scope::new(&config, Some("kaleem")).unwrap().named().is_empty());
        config.oplog = true;
        assert!(Scope::new(&config, None).is_ok());
        config.exclude_collections.push("tmp".into());
        assert!(matches!(Scope::new(&config, None), Err(MongoConfigError::OplogNeedsAll)));
        config.databases.push("kaleem".into());
        assert!(matches!(Scope::new(&config, None), Err(MongoConfigError::NotOnlyAll)));
        let left_out =
            ["local", "__mdb_internal_search", "kdr_drill_x", "admin", "config", "kaleem"]
                .map(is_left_out);
        assert_eq!(left_out, [true, true, true, false, false, false]);
    }
}
