//! The calls of Qdrant's HTTP API that this source uses, as observed with Qdrant 1.18.

use std::fmt;

use bytes::Bytes;
use kaleem_dr_core::{engine::manifest::ServerInfo, ground::SourceError};
use reqwest::{
    Body, Method, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE,
        RANGE,
    },
    multipart::{Form, Part},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::{Failure, QdrantClient, reason},
    names::path_segment,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An alias and its collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alias {
    /// Name of the alias, which clients use like a collection's.
    pub alias_name: String,
    /// Name of the collection that it refers to.
    pub collection_name: String,
}

/// The server's description of a collection.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LiveCollection {
    pub(super) status: String,
    pub(super) points_count: Option<u64>,
    pub(super) config: Value,
    #[serde(default)]
    pub(super) payload_schema: Value,
}

/// A shard of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Id of the shard within its collection.
    pub shard_id: u32,
    /// Its shard key, a string or a number; `None` unless the collection is sharded by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_key: Option<Value>,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shard_key {
            Some(key) => write!(f, "{} ({key})", self.shard_id),
            None => write!(f, "{}", self.shard_id),
        }
    }
}

/// The subject of a snapshot: a collection as one node holds it, or one shard as one peer of a
/// cluster holds it. Names of snapshots are unique within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Subject {
    pub(super) collection: String,
    pub(super) shard: Option<u32>,
}

impl Subject {
    pub(super) fn collection(name: &str) -> Self {
        Self { collection: name.to_owned(), shard: None }
    }

    pub(super) fn shard(name: &str, shard: u32) -> Self {
        Self { collection: name.to_owned(), shard: Some(shard) }
    }

    fn path(&self) -> String {
        let collection = collection(&self.collection);
        self.shard.map_or_else(|| collection.clone(), |id| format!("{collection}/shards/{id}"))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shard {
            Some(id) => write!(f, "shard {id} of {}", self.collection),
            None => f.write_str(&self.collection),
        }
    }
}

/// A snapshot file on the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct SnapshotFile {
    pub(super) name: String,
    #[serde(default)]
    pub(super) size: u64,
    pub(super) checksum: Option<String>,
}

/// The body of a download, or of the rest of one.
pub(super) struct Download {
    pub(super) response: Response,
    pub(super) etag: Option<HeaderValue>,
}

pub(super) fn collection(name: &str) -> String {
    format!("collections/{}", path_segment(name))
}

impl QdrantClient {
    /// Product and version. Needs no API key.
    pub(super) async fn version(&self) -> Result<ServerInfo, SourceError> {
        #[derive(Deserialize)]
        struct Root {
            version: String,
        }
        let root: Root =
            self.call(Method::GET, "", None, "return its version").await?.document()?;
        Ok(ServerInfo::new("Qdrant", root.version))
    }

    /// The names of all collections, sorted.
    pub(super) async fn collections(&self) -> Result<Vec<String>, SourceError> {
        #[derive(Deserialize)]
        struct Collections {
            collections: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let answer: Collections =
            self.call(Method::GET, "collections", None, "list collections").await?.result()?;
        let mut names: Vec<_> =
            answer.collections.into_iter().map(|collection| collection.name).collect();
        names.sort();
        Ok(names)
    }

    /// All aliases, sorted by name.
    pub(super) async fn aliases(&self) -> Result<Vec<Alias>, SourceError> {
        #[derive(Deserialize)]
        struct Aliases {
            aliases: Vec<Alias>,
        }
        let answer: Aliases =
            self.call(Method::GET, "aliases", None, "list aliases").await?.result()?;
        let mut aliases = answer.aliases;
        aliases.sort();
        Ok(aliases)
    }

    /// Describes a collection; `None` if it does not exist.
    pub(super) async fn describe(&self, name: &str) -> Result<Option<LiveCollection>, SourceError> {
        let answer = self
            .call(Method::GET, &collection(name), None, &format!("describe collection {name}"))
            .await?;
        answer.found().map(super::client::Answer::result).transpose()
    }

    /// The exact number of points in a collection.
    pub(super) async fn count(&self, name: &str) -> Result<u64, SourceError> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let path = format!("{}/points/count", collection(name));
        let body = json!({ "exact": true });
        let answer: Count = self
            .call(Method::POST, &path, Some(&body), &format!("count the points of {name}"))
            .await?
            .result()?;
        Ok(answer.count)
    }

    /// Returns a page of points with vectors and payloads, sorted by id, starting at `offset`.
    pub(super) async fn scroll(
        &self,
        name: &str,
        offset: Option<&Value>,
        limit: u64,
    ) -> Result<Bytes, SourceError> {
        let path = format!("{}/points/scroll", collection(name));
        let mut body = json!({ "limit": limit, "with_payload": true, "with_vector": true });
        if let Some(offset) = offset {
            body["offset"] = offset.clone();
        }
        self.call(Method::POST, &path, Some(&body), &read_points(name)).await?.body()
    }

    /// Writes points: the body of a request with `points`.
    pub(super) async fn upsert(&self, name: &str, body: String) -> Result<(), SourceError> {
        let path = format!("{}/points?wait=true", collection(name));
        let request = self.request(Method::PUT, &path)?.header(CONTENT_TYPE, JSON).body(body);
        let action = format!("write points of {name}");
        self.send(self.long(request), &action).await?.result::<Value>().map(drop)
    }

    pub(super) async fn delete_point(&self, name: &str, id: &Value) -> Result<(), SourceError> {
        let path = format!("{}/points/delete?wait=true", collection(name));
        let body = json!({ "points": [id] });
        self.call(Method::POST, &path, Some(&body), &format!("delete a point of {name}"))
            .await?
            .result::<Value>()
            .map(drop)
    }

    /// Creates a snapshot, which stays on the server until it is deleted.
    pub(super) async fn create_snapshot(&self, of: &Subject) -> Result<SnapshotFile, SourceError> {
        let path = format!("{}/snapshots?wait=true", of.path());
        self.long_call(Method::POST, &path, &format!("create a snapshot of {of}")).await?.result()
    }

    /// Reports whether the API key may create snapshots, without creating one: `absent` is a
    /// collection that does not exist. The request is for a shard's snapshot, because one for a
    /// collection's leaves an empty directory on the server (Qdrant 1.18).
    pub(super) async fn may_snapshot(&self, absent: &str) -> Result<bool, SourceError> {
        let path = format!("{}/snapshots?wait=true", Subject::shard(absent, 0).path());
        match self.call(Method::POST, &path, None, "create snapshots").await {
            Ok(answer) => Ok(answer.status == StatusCode::NOT_FOUND),
            Err(SourceError::Unauthorised { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The snapshot files; none if the collection does not exist.
    pub(super) async fn snapshots(&self, of: &Subject) -> Result<Vec<SnapshotFile>, SourceError> {
        let path = format!("{}/snapshots", of.path());
        let answer =
            self.call(Method::GET, &path, None, &format!("list snapshots of {of}")).await?;
        answer.found().map_or_else(|| Ok(Vec::new()), super::client::Answer::result)
    }

    /// Deletes a snapshot file. Succeeds if it does not exist.
    pub(super) async fn delete_snapshot(
        &self,
        of: &Subject,
        snapshot: &str,
    ) -> Result<(), SourceError> {
        let path = format!("{}/snapshots/{}?wait=true", of.path(), path_segment(snapshot));
        let action = format!("delete the temporary snapshot {snapshot} of {of}");
        let answer = self.call(Method::DELETE, &path, None, &action).await?;
        answer.found().map_or(Ok(()), |answer| answer.result::<bool>().map(drop))
    }

    /// Starts a download of a snapshot, or resumes it at `offset` if the file is unchanged. The
    /// body has no time-out.
    pub(super) async fn download(
        &self,
        of: &Subject,
        snapshot: &str,
        offset: u64,
        etag: Option<&HeaderValue>,
    ) -> Result<Download, SourceError> {
        let action = format!("send snapshot {snapshot} of {of}");
        let path = format!("{}/snapshots/{}", of.path(), path_segment(snapshot));
        // With gzip encoding, the bytes of the body would not match the checksum.
        let mut request = self
            .request(Method::GET, &path)?
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if let Some(etag) = etag {
                request = request.header(IF_RANGE, etag);
            }
        }
        let sent = tokio::time::timeout(self.timeout(), request.send()).await;
        let response =
            sent.map_err(|_| self.silent(&action))?.map_err(|error| self.unreachable(error))?;
        let expected = if offset > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if response.status() != expected {
            self.allowed(&response, b"", &action)?;
            let status = response.status();
            if status.is_success() {
                return Err(self.failed(&action, "the file changed while it was read"));
            }
            let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
            return Err(self.failed(&action, Failure::Status { status, reason: reason(&body) }));
        }
        if offset > 0 {
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|range| range.to_str().ok())
                .unwrap_or_default();
            if !range.starts_with(&format!("bytes {offset}-")) {
                return Err(self.failed(
                    &action,
                    format!("it sent a part of the file that was not requested: {range}"),
                ));
            }
        }
        let etag = response.headers().get(ETAG).cloned();
        Ok(Download { response, etag })
    }

    /// The error for a server that stops sending in the middle of a body.
    pub(super) fn silent(&self, action: &str) -> SourceError {
        self.failed(action, format!("it sent nothing for {} s", self.timeout().as_secs()))
    }

    /// Replaces a shard of a collection with an uploaded snapshot. Call the peer that holds it. Other
    /// replicas of the shard are then filled from it.
    ///
    /// Unlike an upload to a collection, this leaves neither a file nor a directory on the server
    /// (Qdrant 1.18).
    pub(super) async fn upload_shard(
        &self,
        shard: &Subject,
        sha256: &str,
        size_bytes: u64,
        body: Body,
    ) -> Result<(), SourceError> {
        let action = format!("restore {shard}");
        let path = format!(
            "{}/snapshots/upload?wait=true&priority=snapshot&checksum={sha256}",
            shard.path()
        );
        let part = Part::stream_with_length(body, size_bytes).file_name("kaleem-dr.snapshot");
        let part =
            part.mime_str("application/octet-stream").map_err(|error| self.unreachable(error))?;
        let form = Form::new().part("snapshot", part);
        let request = self.long(self.request(Method::POST, &path)?.multipart(form));
        // A success is `"result": null`.
        self.send(request, &action).await?.result::<Value>().map(drop)
    }

    pub(super) async fn create_collection(
        &self,
        name: &str,
        definition: &Value,
    ) -> Result<(), SourceError> {
        let action = format!("create collection {name}");
        let made: bool =
            self.call(Method::PUT, &collection(name), Some(definition), &action).await?.result()?;
        if made { Ok(()) } else { Err(self.failed(&action, "its reply says that it did not")) }
    }

    /// Creates the shards of one shard key.
    pub(super) async fn create_shard_key(
        &self,
        name: &str,
        key: &Value,
        shards: u64,
    ) -> Result<(), SourceError> {
        let path = format!("{}/shards", collection(name));
        let action = format!("create the shard key {key} of {name}");
        let body = json!({ "shard_key": key, "shards_number": shards });
        let made: bool = self.call(Method::PUT, &path, Some(&body), &action).await?.result()?;
        if made { Ok(()) } else { Err(self.failed(&action, "its reply says that it did not")) }
    }

    /// Changes settings that cannot be set when a collection is created.
    pub(super) async fn change_collection(
        &self,
        name: &str,
        change: &Value,
    ) -> Result<(), SourceError> {
        let action = format!("change the settings of {name}");
        let answer = self.call(Method::PATCH, &collection(name), Some(change), &action).await?;
        answer.result::<Value>().map(drop)
    }

    /// Creates a payload index, and waits for it.
    pub(super) async fn create_index(
        &self,
        name: &str,
        field: &str,
        schema: &Value,
    ) -> Result<(), SourceError> {
        let path = format!("{}/index?wait=true", collection(name));
        let body = json!({ "field_name": field, "field_schema": schema });
        let action = format!("create the index of {field} in {name}");
        self.call(Method::PUT, &path, Some(&body), &action).await?.result::<Value>().map(drop)
    }

    /// Deletes a collection with all of its points. Succeeds if it does not exist.
    pub(super) async fn delete_collection(&self, name: &str) -> Result<(), SourceError> {
        let action = format!("delete collection {name}");
        let answer = self.call(Method::DELETE, &collection(name), None, &action).await?;
        answer.found().map_or(Ok(()), |answer| answer.result::<bool>().map(drop))
    }

    /// Changes aliases in a single step.
    pub(super) async fn change_aliases(&self, actions: &[Value]) -> Result<(), SourceError> {
        let body = json!({ "actions": actions });
        let made: bool = self
            .call(Method::POST, "collections/aliases", Some(&body), "change aliases")
            .await?
            .result()?;
        if made {
            Ok(())
        } else {
            Err(self.failed("change aliases", "its reply says that it did not"))
        }
    }
}

impl Download {
    /// The length of the body in bytes, if the server announced it.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// The action of reading points, for error messages.
pub(super) fn read_points(name: &str) -> String {
    format!("read the points of {name}")
}
