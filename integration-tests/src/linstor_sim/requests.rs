//! The bodies that calls bring. A field that is not known here is refused, as the real one refuses it.

use super::model::{Filter, Props};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// KiB, as a number, a fraction that is cut off, or digits in quotes (python-linstor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) i64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let whole = match &value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64().or_else(|| cut(number.as_f64()?)),
            _ => None,
        };
        whole.map(Self).ok_or_else(|| D::Error::custom(format!("no size: {value}")))
    }
}

fn cut(number: f64) -> Option<i64> {
    format!("{:.0}", number.trunc()).parse().ok()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNode {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) net_interfaces: Vec<Interface>,
    #[serde(default, rename = "props")]
    pub(super) _props: Props,
}

#[derive(Debug, Deserialize)]
pub(super) struct Interface {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) address: String,
    pub(super) satellite_port: Option<u32>,
    pub(super) satellite_encryption_type: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewPool {
    pub(super) storage_pool_name: String,
    pub(super) provider_kind: String,
    #[serde(default)]
    pub(super) props: Props,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewGroup {
    pub(super) name: String,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) props: Props,
    #[serde(default)]
    pub(super) select_filter: Filter,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewVolumeGroup {
    pub(super) volume_number: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spawn {
    #[serde(default)]
    pub(super) resource_definition_name: String,
    #[serde(default, rename = "resource_definition_external_name")]
    pub(super) _external: Option<String>,
    #[serde(default)]
    pub(super) volume_sizes: Vec<Size>,
    pub(super) select_filter: Option<Filter>,
    #[serde(default)]
    pub(super) partial: bool,
    #[serde(default)]
    pub(super) definitions_only: bool,
    #[serde(default, rename = "resource_definition_props")]
    pub(super) props: Props,
    #[serde(default, rename = "volume_passphrases")]
    pub(super) _passphrases: Value,
    #[serde(default, rename = "peer_slots")]
    pub(super) _peer_slots: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDefinition {
    /// `null` makes the real one stumble; left out, it is one without a name.
    #[serde(default = "nameless")]
    pub(super) resource_definition: Option<DefinitionBody>,
    #[serde(default, rename = "external_name")]
    pub(super) _external: Option<String>,
    #[serde(default, rename = "drbd_peer_slots")]
    pub(super) _peer_slots: Option<u32>,
    #[serde(default, rename = "drbd_port")]
    pub(super) _port: Option<u32>,
    #[serde(default, rename = "drbd_secret")]
    pub(super) _secret: Option<String>,
    #[serde(default, rename = "drbd_transport_type")]
    pub(super) _transport: Option<String>,
}

fn nameless() -> Option<DefinitionBody> {
    Some(DefinitionBody::default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefinitionBody {
    #[serde(default)]
    pub(super) name: String,
    /// What a name is made of where there is none.
    pub(super) external_name: Option<String>,
    #[serde(default)]
    pub(super) props: Props,
    #[serde(default, rename = "flags")]
    pub(super) _flags: Vec<String>,
    #[serde(default)]
    pub(super) layer_data: Vec<Layer>,
    #[serde(default, rename = "uuid")]
    pub(super) _uuid: Option<String>,
    pub(super) resource_group_name: Option<String>,
    #[serde(default, rename = "volume_definitions")]
    pub(super) _volumes: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Layer {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// A change of properties, of most objects.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Modify {
    #[serde(default)]
    pub(super) override_props: Props,
    #[serde(default)]
    pub(super) delete_props: Vec<String>,
    #[serde(default)]
    pub(super) delete_namespaces: Vec<String>,
    /// A volume definition's.
    pub(super) size_kib: Option<Size>,
    #[serde(default, rename = "flags")]
    pub(super) _flags: Vec<String>,
    #[serde(default, rename = "uuid")]
    pub(super) _uuid: Option<uuid::Uuid>,
    #[serde(default, rename = "drbd_port")]
    pub(super) _port: Option<u32>,
    #[serde(default, rename = "drbd_peer_slots")]
    pub(super) _peer_slots: Option<u32>,
    #[serde(default, rename = "layer_stack")]
    pub(super) _layers: Vec<String>,
    /// A definition goes to another group.
    pub(super) resource_group: Option<String>,
    /// A group's.
    pub(super) select_filter: Option<Filter>,
    pub(super) description: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewVolumeDefinition {
    pub(super) volume_definition: VolumeDefinitionBody,
}

#[derive(Debug, Deserialize)]
pub(super) struct VolumeDefinitionBody {
    pub(super) volume_number: Option<u32>,
    pub(super) size_kib: Size,
    #[serde(default)]
    pub(super) props: Props,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewResource {
    pub(super) resource: ResourceBody,
    #[serde(default, rename = "layer_list")]
    pub(super) _layers: Vec<String>,
    #[serde(default, rename = "drbd_node_id")]
    pub(super) _node_id: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ResourceBody {
    #[serde(default)]
    pub(super) node_name: String,
    #[serde(default)]
    pub(super) props: Props,
    #[serde(default)]
    pub(super) flags: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AutoPlace {
    pub(super) select_filter: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeAvailable {
    #[serde(default)]
    pub(super) diskful: bool,
    #[serde(default, rename = "layer_list")]
    pub(super) _layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewSnapshot {
    pub(super) name: String,
    #[serde(default)]
    pub(super) nodes: Vec<String>,
    /// Of several at once.
    #[serde(default)]
    pub(super) resource_name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct NewSnapshots {
    #[serde(default)]
    pub(super) snapshots: Vec<NewSnapshot>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RestoreTo {
    pub(super) to_resource: String,
    #[serde(default)]
    pub(super) nodes: Vec<String>,
}
