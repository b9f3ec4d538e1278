//! What a VM is made of, for people and scripts.

use super::show::bytes;
use proto::v1;
use serde_json::{Value, json};

/// `LSILOGIC_SAS` → `lsilogic-sas`, as the agent's file spells it; `None` where it is not known.
fn word(name: &str, prefix: &str) -> Option<String> {
    let word = name.strip_prefix(prefix).unwrap_or(name);
    (word != "UNSPECIFIED").then(|| word.to_lowercase().replace('_', "-"))
}

fn firmware(c: &v1::VmConfiguration) -> Option<String> {
    word(c.firmware().as_str_name(), "FIRMWARE_")
}

fn power(c: &v1::VmConfiguration) -> Option<String> {
    word(c.power_state().as_str_name(), "POWER_STATE_")
}

fn tools(c: &v1::VmConfiguration) -> Option<String> {
    word(c.tools().as_str_name(), "GUEST_TOOLS_STATE_")
}

fn kind(c: &v1::VmController) -> Option<String> {
    word(c.kind().as_str_name(), "CONTROLLER_KIND_")
}

fn model(nic: &v1::VmNic) -> Option<String> {
    word(nic.model().as_str_name(), "NIC_MODEL_")
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|t| !t.is_empty())
}

pub(super) fn json_of(c: &v1::VmConfiguration) -> Value {
    let positive = |n: u64| (n > 0).then_some(n);
    json!({
        "cpus": positive(c.cpus.into()),
        "cores_per_socket": positive(c.cores_per_socket.into()),
        "memory_bytes": positive(c.memory_bytes),
        "firmware": firmware(c),
        "secure_boot": c.secure_boot,
        "tpm": c.tpm,
        "controllers": c.controllers.iter().map(|x| json!({"key": x.key, "kind": kind(x)})).collect::<Vec<_>>(),
        "disks": c.disks.iter().map(|d| json!({
            "key": d.key, "controller": known(&d.controller), "unit": d.unit,
        })).collect::<Vec<_>>(),
        "nics": c.nics.iter().map(|n| json!({
            "key": n.key, "mac": known(&n.mac), "model": model(n), "network": known(&n.network), "addresses": n.addresses,
        })).collect::<Vec<_>>(),
        "guest_id": known(&c.guest_id),
        "guest_name": known(&c.guest_name),
        "power_state": power(c),
        "tags": c.tags,
        "notes": known(&c.notes),
        "tools": tools(c),
        "change_tracking": c.change_tracking,
    })
}

/// A line a thing; what is not known is left out, but for what a failover cannot do without.
pub(super) fn lines(c: &v1::VmConfiguration, disks: &[v1::VmDisk]) -> Vec<String> {
    const NOT_KNOWN: &str = "not known";
    let or_not = |text: Option<String>| text.unwrap_or_else(|| NOT_KNOWN.to_owned());
    let yes_no = |said: Option<bool>| said.map_or(NOT_KNOWN, |yes| if yes { "yes" } else { "no" });
    let cpus = match (c.cpus, c.cores_per_socket) {
        (0, _) => NOT_KNOWN.to_owned(),
        (cpus, 0) => cpus.to_string(),
        (cpus, cores) => format!("{cpus} ({cores} a socket)"),
    };
    let memory = (c.memory_bytes > 0).then(|| bytes(c.memory_bytes));
    let mut lines = vec![
        format!("power       {}", or_not(power(c))),
        format!("cpus        {cpus}"),
        format!("memory      {}", or_not(memory)),
        format!(
            "firmware    {} (secure boot: {}, TPM: {})",
            or_not(firmware(c)),
            yes_no(c.secure_boot),
            yes_no(c.tpm)
        ),
        format!("tracking    {}", yes_no(c.change_tracking)),
    ];
    let guest =
        [known(&c.guest_name), known(&c.guest_id)].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let tools = tools(c).map(|t| format!(" (tools: {t})")).unwrap_or_default();
    lines.push(format!("guest       {}{tools}", if guest.is_empty() { NOT_KNOWN } else { &guest }));
    for disk in disks {
        let place = c.disks.iter().find(|p| p.key == disk.key);
        let controller = place.and_then(|p| c.controllers.iter().find(|x| x.key == p.controller));
        let at = controller.map(|x| {
            let unit = place.and_then(|p| p.unit).map(|unit| format!(":{unit}")).unwrap_or_default();
            format!(" on {} {}{unit}", kind(x).unwrap_or_default(), x.key)
        });
        lines.push(format!("disk        {} {}{}", disk.key, bytes(disk.size_bytes), at.unwrap_or_default()));
    }
    for nic in &c.nics {
        let network = known(&nic.network).map(|n| format!(" on {n:?}")).unwrap_or_default();
        let mut words = vec![nic.key.clone()];
        words.extend(model(nic));
        words.extend(known(&nic.mac).map(str::to_owned));
        words.extend(nic.addresses.iter().cloned());
        lines.push(format!("nic         {}{network}", words.join(" ")));
    }
    if !c.tags.is_empty() {
        lines.push(format!("tags        {}", c.tags.join(", ")));
    }
    if let Some(notes) = known(&c.notes) {
        lines.push(format!("notes       {}", notes.replace('\n', "\n            ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shown_and_what_is_not_is_said() {
        let c = v1::VmConfiguration {
            cpus: 4,
            cores_per_socket: 2,
            firmware: v1::Firmware::Efi.into(),
            controllers: vec![v1::VmController {
                key: "1000".into(),
                kind: v1::ControllerKind::LsilogicSas.into(),
            }],
            disks: vec![v1::VmDiskPlace { key: "root".into(), controller: "1000".into(), unit: Some(0) }],
            nics: vec![v1::VmNic {
                key: "4000".into(),
                network: "VM Network".into(),
                ..v1::VmNic::default()
            }],
            change_tracking: Some(false),
            ..v1::VmConfiguration::default()
        };
        let disk = v1::VmDisk { key: "root".into(), size_bytes: 1 << 30 };
        assert_eq!(
            lines(&c, &[disk]),
            [
                "power       not known",
                "cpus        4 (2 a socket)",
                "memory      not known",
                "firmware    efi (secure boot: not known, TPM: not known)",
                "tracking    no",
                "guest       not known",
                "disk        root 1.00 GiB on lsilogic-sas 1000:0",
                "nic         4000 on \"VM Network\"",
            ]
        );
        let json = json_of(&c);
        assert_eq!((&json["firmware"], &json["memory_bytes"]), (&json!("efi"), &Value::Null));
        assert_eq!(
            (&json["controllers"][0]["kind"], &json["nics"][0]["model"]),
            (&json!("lsilogic-sas"), &Value::Null)
        );
    }
}
