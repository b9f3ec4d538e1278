//! The calls that this product makes, each as its own method. What they answer is believed as far as it is a refusal; whether a
//! resource can be used is read back (`model`).

use super::client::Client;
use super::error::Error;
use super::model::{Definition, Node, Pool, Resource, Snapshot, Version};
use super::name::Name;
use super::reply::{Problem, Replies};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// No body.
const NOTHING: Option<&Value> = None;

/// Where the resources of a group are placed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Group {
    pub name: String,
    #[serde(default)]
    pub select_filter: Filter,
}

/// A group's choice of nodes and pools, as it is handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place_count: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_pool_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_stack: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_list: Vec<String>,
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Client {
    pub async fn version(&self) -> Result<Version, Error> {
        self.get("/v1/controller/version").await
    }

    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.get("/v1/nodes").await
    }

    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        self.get("/v1/view/storage-pools").await
    }

    /// `None`: there is none of that name.
    pub async fn group(&self, group: &Name) -> Result<Option<Group>, Error> {
        found(self.get(&format!("/v1/resource-groups/{group}")).await)
    }

    /// With its volumes. `None`: there is none of that name.
    pub async fn definition(&self, name: &Name) -> Result<Option<Definition>, Error> {
        let all: Vec<Definition> = match self
            .get(&format!(
                "/v1/resource-definitions?resource_definitions={name}&with_volume_definitions=true"
            ))
            .await
        {
            Err(error) if error.problem() == Some(Problem::NotFound) => return Ok(None),
            all => all?,
        };
        // Names differ in more than their case, and a filter that a server does not know filters nothing.
        Ok(all.into_iter().find(|definition| definition.name.eq_ignore_ascii_case(name.as_str())))
    }

    /// All there are, of everybody.
    pub async fn definitions(&self) -> Result<Vec<Definition>, Error> {
        self.get("/v1/resource-definitions?with_volume_definitions=true").await
    }

    /// On all nodes.
    pub async fn resources(&self, name: &Name) -> Result<Vec<Resource>, Error> {
        let all: Vec<Resource> = self.get(&format!("/v1/view/resources?resources={name}")).await?;
        Ok(all.into_iter().filter(|resource| resource.name.eq_ignore_ascii_case(name.as_str())).collect())
    }

    /// Of everybody, on one node.
    pub async fn resources_on(&self, node: &str) -> Result<Vec<Resource>, Error> {
        let all: Vec<Resource> = self.get(&format!("/v1/view/resources?nodes={node}")).await?;
        Ok(all.into_iter().filter(|resource| resource.node_name.eq_ignore_ascii_case(node)).collect())
    }

    /// Of one resource.
    pub async fn snapshots(&self, name: &Name) -> Result<Vec<Snapshot>, Error> {
        let all: Vec<Snapshot> = self.get(&format!("/v1/view/snapshots?resources={name}")).await?;
        Ok(all
            .into_iter()
            .filter(|snapshot| snapshot.resource_name.eq_ignore_ascii_case(name.as_str()))
            .collect())
    }

    /// Of all resources of everybody.
    pub async fn all_snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        self.get("/v1/view/snapshots").await
    }

    /// A definition without a volume, with its properties from the first moment on. `layers`: as its group has them; a
    /// definition that is made by hand ignores those of the group.
    pub async fn define(
        &self,
        name: &Name,
        group: &Name,
        layers: &[String],
        props: &BTreeMap<String, String>,
    ) -> Result<Replies, Error> {
        let mut definition =
            json!({ "name": name.as_str(), "resource_group_name": group.as_str(), "props": props });
        if !layers.is_empty() {
            let layers: Vec<_> = layers.iter().map(|layer| json!({ "type": layer })).collect();
            definition["layer_data"] = layers.into();
        }
        let body = json!({ "resource_definition": definition });
        self.change(&Method::POST, "/v1/resource-definitions", Some(&body)).await
    }

    /// Volume 0 of a definition.
    pub async fn define_volume(&self, name: &Name, size_kib: u64) -> Result<Replies, Error> {
        let body = json!({ "volume_definition": { "size_kib": size_kib } });
        self.change(
            &Method::POST,
            &format!("/v1/resource-definitions/{name}/volume-definitions"),
            Some(&body),
        )
        .await
    }

    /// Puts its copies where the group wants them; those that are there count.
    pub async fn place(&self, name: &Name, filter: &Filter) -> Result<Replies, Error> {
        let body = json!({ "diskless_on_remaining": false, "select_filter": filter });
        self.change(&Method::POST, &format!("/v1/resource-definitions/{name}/autoplace"), Some(&body)).await
    }

    /// Makes it reachable on a node, with a disk of its own there or without. Says yes to what has no device: look afterwards.
    pub async fn make_available(&self, name: &Name, node: &str) -> Result<Replies, Error> {
        let path = format!("/v1/resource-definitions/{name}/resources/{node}/make-available");
        self.change(&Method::POST, &path, Some(&json!({ "diskful": false }))).await
    }

    pub async fn set_props(
        &self,
        name: &Name,
        set: &BTreeMap<String, String>,
        delete: &[&str],
    ) -> Result<Replies, Error> {
        let body = json!({ "override_props": set, "delete_props": delete });
        self.change(&Method::PUT, &format!("/v1/resource-definitions/{name}"), Some(&body)).await
    }

    /// What is written in a key-value store of the controller; nothing where there is no such store.
    pub async fn notes(&self, store: &str) -> Result<BTreeMap<String, String>, Error> {
        #[derive(Deserialize)]
        struct Store {
            #[serde(default)]
            props: BTreeMap<String, String>,
        }
        let stores: Option<Vec<Store>> = found(self.get(&format!("/v1/key-value-store/{store}")).await)?;
        Ok(stores.into_iter().flatten().flat_map(|store| store.props).collect())
    }

    /// Writes into one, which comes and goes with what is in it.
    pub async fn note(
        &self,
        store: &str,
        set: &BTreeMap<String, String>,
        delete: &[&str],
    ) -> Result<Replies, Error> {
        let body = json!({ "override_props": set, "delete_props": delete });
        self.change(&Method::PUT, &format!("/v1/key-value-store/{store}"), Some(&body)).await
    }

    /// Shrinks as readily as it grows, at the price of the data: the caller has compared.
    pub async fn set_size(&self, name: &Name, size_kib: u64) -> Result<Replies, Error> {
        let path = format!("/v1/resource-definitions/{name}/volume-definitions/0");
        self.change(&Method::PUT, &path, Some(&json!({ "size_kib": size_kib }))).await
    }

    /// One snapshot of each, at one moment. Any that is refused refuses all; a tool that fails leaves all of them, failed.
    pub async fn take_snapshots(&self, names: &[Name], snapshot: &Name) -> Result<Replies, Error> {
        let all =
            names.iter().map(|name| json!({ "resource_name": name.as_str(), "name": snapshot.as_str() }));
        let body = json!({ "snapshots": all.collect::<Vec<_>>() });
        self.change(&Method::POST, "/v1/actions/snapshot/multi", Some(&body)).await
    }

    /// The volume of a snapshot as that of a definition that has none.
    pub async fn restore_volume(&self, from: &Name, snapshot: &Name, to: &Name) -> Result<Replies, Error> {
        let path = format!("/v1/resource-definitions/{from}/snapshot-restore-volume-definition/{snapshot}");
        self.change(&Method::POST, &path, Some(&json!({ "to_resource": to.as_str() }))).await
    }

    /// Its content, as resources of a definition that has none.
    pub async fn restore(&self, from: &Name, snapshot: &Name, to: &Name) -> Result<Replies, Error> {
        let path = format!("/v1/resource-definitions/{from}/snapshot-restore-resource/{snapshot}");
        self.change(&Method::POST, &path, Some(&json!({ "to_resource": to.as_str() }))).await
    }

    /// Deletes its resources and restores them from a snapshot of it. After a failure nothing may be done with it but this again, or
    /// its deletion.
    pub async fn rollback(&self, name: &Name, snapshot: &Name) -> Result<Replies, Error> {
        let path = format!("/v1/resource-definitions/{name}/snapshot-rollback/{snapshot}");
        self.change(&Method::POST, &path, Some(&json!({}))).await
    }

    // Not here, and for a reason: the deletion of one copy, which LINSTOR allows of the only one that is whole, and that of a node,
    // which takes everything on it along.

    /// Nothing to delete is success, and so is a node that is off: its blocks stay taken then, for ever.
    pub async fn delete_snapshot(&self, name: &Name, snapshot: &Name) -> Result<(), Error> {
        let path = format!("/v1/resource-definitions/{name}/snapshots/{snapshot}");
        found(self.change(&Method::DELETE, &path, NOTHING).await).map(|_| ())
    }

    /// With its resources. Nothing to delete is success; one with snapshots is refused.
    pub async fn delete_definition(&self, name: &Name) -> Result<(), Error> {
        found(self.change(&Method::DELETE, &format!("/v1/resource-definitions/{name}"), NOTHING).await)
            .map(|_| ())
    }
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.problem() == Some(Problem::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
