//! A LINSTOR controller over its REST API: the requests that CloudStack's plug-in was recorded making, and no others.
//!
//! One connection a request, HTTP/1.1, blocking, without TLS.

use super::linstor::{Definition, Linstor, Placement};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug)]
pub struct Rest {
    /// `host:port`.
    address: String,
}

impl Rest {
    /// `http://host:port`; the port is 3370 where none is said.
    pub fn new(url: &str) -> Self {
        let rest = url.trim_start_matches("http://").trim_start_matches("linstor://");
        let host = rest.split('/').next().unwrap_or_default();
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:3370") };
        Self { address }
    }

    /// The answer's status and body.
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
        let failed = |error: std::io::Error| format!("LINSTOR at {}: {error}", self.address);
        let mut addresses = self.address.to_socket_addrs().map_err(failed)?;
        let address = addresses.next().ok_or_else(|| format!("{} is no address", self.address))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
             User-Agent: cloudstack-sim\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        parse(&answer).ok_or_else(|| format!("LINSTOR at {}: {method} {path}: no HTTP answer", self.address))
    }

    /// The body of a success; else the controller's first message.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let (status, answer) = self.send(method, path, body)?;
        if (200..300).contains(&status) && !has_error(&answer) {
            return Ok(answer);
        }
        let said = answer.as_array().and_then(|entries| {
            let wrong = entries.iter().find(|entry| is_error(entry)).or_else(|| entries.first())?;
            wrong["message"].as_str().map(str::to_owned)
        });
        Err(said.unwrap_or_else(|| format!("{method} {path}: status {status}")))
    }
}

/// The two top bits of a return code say what it is; both set: an error.
fn is_error(entry: &Value) -> bool {
    entry.get("ret_code").and_then(Value::as_i64).is_some_and(|code| code.cast_unsigned() >> 62 == 3)
}

fn has_error(answer: &Value) -> bool {
    answer.as_array().is_some_and(|entries| entries.iter().any(is_error))
}

fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let raw = &answer[end + 4..];
    let body = if is_chunked { unchunk(raw)? } else { raw.to_vec() };
    Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = raw.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        raw = &raw[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(raw.get(..size)?);
        raw = raw.get(size + 2..)?;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Linstor for Rest {
    fn definitions(&self) -> Result<Vec<Definition>, String> {
        let path = "/v1/resource-definitions?with_volume_definitions=false";
        let answer = self.ask("GET", path, None)?;
        let definitions = answer.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let read = definitions.map(|definition| Definition {
            name: text(&definition["name"]),
            group: text(&definition["resource_group_name"]),
            props: definition
                .get("props")
                .and_then(Value::as_object)
                .map(|props| props.iter().map(|(key, value)| (key.clone(), text(value))).collect()),
        });
        Ok(read.collect())
    }

    fn select_filter(&self, group: &str) -> Result<Value, String> {
        let answer = self.ask("GET", &format!("/v1/resource-groups?resource_groups={group}"), None)?;
        let named = |groups: &Vec<Value>| groups.iter().find(|own| own["name"] == group).cloned();
        let group = answer.as_array().and_then(named).ok_or_else(|| format!("no resource group {group}"))?;
        Ok(group["select_filter"].clone())
    }

    fn spawn(&self, group: &str, name: &str, kib: u64) -> Result<(), String> {
        let body = json!({
            "resource_definition_name": name, "volume_sizes": [kib], "partial": false, "definitions_only": false
        });
        self.ask("POST", &format!("/v1/resource-groups/{group}/spawn"), Some(&body)).map(drop)
    }

    fn set_property(&self, name: &str, key: &str, value: &str) -> Result<(), String> {
        let body = json!({"override_props": {key: value}});
        self.ask("PUT", &format!("/v1/resource-definitions/{name}"), Some(&body)).map(drop)
    }

    fn size_kib(&self, name: &str) -> Result<u64, String> {
        let path = format!("/v1/resource-definitions/{name}/volume-definitions");
        let answer = self.ask("GET", &path, None)?;
        let first = answer.as_array().and_then(|volumes| volumes.first()?["size_kib"].as_u64());
        first.ok_or_else(|| format!("{name} has no volume definition"))
    }

    fn resize(&self, name: &str, kib: u64) -> Result<(), String> {
        let path = format!("/v1/resource-definitions/{name}/volume-definitions/0");
        self.ask("PUT", &path, Some(&json!({"size_kib": kib}))).map(drop)
    }

    fn placements(&self, name: &str) -> Result<Vec<Placement>, String> {
        let answer = self.ask("GET", &format!("/v1/view/resources?resources={name}"), None)?;
        let resources = answer.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let read = resources.map(|resource| {
            let flags = resource["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
            Placement {
                node: text(&resource["node_name"]),
                device: resource["volumes"][0]["device_path"].as_str().map(str::to_owned),
                diskless: flags.iter().any(|flag| flag == "DISKLESS" || flag == "DRBD_DISKLESS"),
                in_use: resource["state"]["in_use"] == true,
            }
        });
        Ok(read.collect())
    }

    fn delete_definition(&self, name: &str) -> Result<(), String> {
        self.ask("DELETE", &format!("/v1/resource-definitions/{name}"), None).map(drop)
    }

    fn create_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String> {
        let path = format!("/v1/resource-definitions/{name}/snapshots");
        self.ask("POST", &path, Some(&json!({"name": snapshot}))).map(drop)
    }

    fn has_snapshot_devices(&self, name: &str) -> Result<bool, String> {
        let answer = self.ask("GET", &format!("/v1/view/resources?resources={name}"), None)?;
        let resources = answer.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let mut kinds = resources.filter_map(|resource| resource["volumes"][0]["provider_kind"].as_str());
        Ok(!kinds.any(|kind| matches!(kind, "FILE" | "FILE_THIN")))
    }

    fn delete_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String> {
        self.ask("DELETE", &format!("/v1/resource-definitions/{name}/snapshots/{snapshot}"), None).map(drop)
    }

    fn rollback(&self, name: &str, snapshot: &str) -> Result<(), String> {
        let path = format!("/v1/resource-definitions/{name}/snapshot-rollback/{snapshot}");
        self.ask("POST", &path, None).map(drop)
    }

    fn make_available(&self, name: &str, node: &str) -> Result<(), String> {
        let path = format!("/v1/resource-definitions/{name}/resources/{node}/make-available");
        self.ask("POST", &path, Some(&json!({"diskful": false}))).map(drop)
    }

    fn drop_diskless(&self, name: &str, node: &str) -> Result<(), String> {
        let path = format!("/v1/resource-definitions/{name}/resources/{node}?keep_tiebreaker=true");
        self.ask("DELETE", &path, None).map(drop)
    }
}
