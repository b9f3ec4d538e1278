//! Who may what: signatures, roles, parameters, limits, throttling.

use super::Rig;
use super::client::encode;
use serde_json::{Value, json};

const NONE: [(&str, &str); 0] = [];

#[tokio::test]
async fn a_request_is_signed_or_refused() {
    let rig = Rig::start().await;
    let good = rig.admin.query("listZones", &NONE);
    assert_eq!(rig.admin.raw("GET", &format!("/client/api?{good}"), None).await.0, 200);
    let (status, body) = rig.admin.raw("GET", &format!("/client/api?{good}&extra=1"), None).await;
    assert_eq!(status, 401);
    assert!(body.starts_with("{\"listzonesresponse\":{\"errorcode\":401"), "{body}");
    let (status, body) = rig.admin.raw("GET", "/client/api", None).await;
    assert!(status == 401 && body.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><errorresponse>"));
    for unknown in ["noSuchCommand", "listzones", "LISTZONES"] {
        assert_eq!(rig.admin.refused(unknown, &NONE).await.0, 401, "{unknown}");
    }
    let expired = [("signatureVersion", "3"), ("expires", "2020-01-01T00:00:00+0000")];
    assert_eq!(rig.admin.refused("listZones", &expired).await.0, 401);
    assert_eq!(rig.user.refused("listHosts", &NONE).await.0, 432);
    assert_eq!(rig.admin.refused("createZone", &NONE).await.0, 501, "it says that it does not simulate it");
    assert_eq!(rig.admin.raw("PUT", &format!("/client/api?{good}"), None).await.0, 405);
}

#[tokio::test]
async fn parameters_are_held_against_the_contract() {
    let rig = Rig::start().await;
    let admin = &rig.admin;
    let nothing = "00000000-0000-0000-0000-000000000000";
    for (command, params, code, exception) in [
        ("startVirtualMachine", vec![], 431, 9999),
        ("startVirtualMachine", vec![("id", "")], 431, 4350),
        ("startVirtualMachine", vec![("id", nothing)], 431, 9999),
        ("startVirtualMachine", vec![("id", "999999")], 431, 4350),
        ("listVolumes", vec![("page", "1")], 431, 9999),
        ("listVolumes", vec![("page", "x"), ("pagesize", "1")], 431, 9999),
        ("listVolumes", vec![("page", "1"), ("pagesize", "501")], 431, 4350),
        ("listVirtualMachines", vec![("details", "nonsense")], 431, 4350),
        ("listVirtualMachines", vec![("keyword", "a\tb")], 431, 9999),
        ("listNetworks", vec![("type", "nonsense")], 431, 4350),
        ("deployVirtualMachine", vec![], 431, 9999),
    ] {
        let refused = admin.refused(command, &params).await;
        assert_eq!((refused.0, refused.1), (code, Some(exception)), "{command} {params:?}: {}", refused.2);
    }
    let long = "k".repeat(8200);
    let target = format!("/client/api?{}", admin.query("listVirtualMachines", &[("keyword", &long)]));
    let (status, body) = admin.raw("GET", &target, None).await;
    assert!(status == 414 && body.starts_with("<h1>"), "{status}");
    assert_eq!(admin.refused("listVirtualMachines", &[("keyword", &long)]).await.0, 431);
}

#[tokio::test]
async fn a_limit_refuses_at_once() {
    let rig = Rig::start().await;
    let volume = |name: &str| {
        [
            ("name", name.to_owned()),
            ("zoneid", rig.zone()),
            ("diskofferingid", rig.id("diskoffering", "Small")),
        ]
    };
    for (resource, max) in [("2", "1"), ("10", "8")] {
        let limit = [("resourcetype", resource), ("max", max), ("account", "plain")];
        rig.admin.ok("updateResourceLimit", &limit).await;
    }
    let own = [("customid", "44444444-0000-4000-8000-000000000001".to_owned())];
    let with_id: Vec<_> = volume("u0").into_iter().chain(own).collect();
    assert_eq!(rig.user.refused("createVolume", &with_id).await.0, 531);
    rig.user.job("createVolume", &volume("u1")).await.done();
    let above = rig.user.refused("createVolume", &volume("u2")).await;
    assert_eq!((above.0, above.1), (535, Some(4370)));
    rig.admin.ok("updateResourceLimit", &[("resourcetype", "2"), ("max", "-1"), ("account", "plain")]).await;
    let above = rig.user.refused("createVolume", &volume("u3")).await;
    assert!(above.2.contains("primary_storage"), "{}", above.2);
    let shown = rig.user.ok("listResourceLimits", &[("resourcetype", "10")]).await;
    assert_eq!(shown["resourcelimit"][0]["max"], 8);
}

#[tokio::test]
async fn one_account_does_not_touch_anothers() {
    let rig = Rig::start().await;
    let vm = rig.deploy("mine").await;
    assert_eq!(rig.user.ok("listVirtualMachines", &NONE).await, json!({}));
    assert_eq!(rig.user.refused("startVirtualMachine", &[("id", &vm)]).await.0, 531);
    let jobs = rig.admin.see("state").await["jobs"].clone();
    let job = jobs[0]["id"].as_str().unwrap();
    assert_eq!(rig.user.refused("queryAsyncJobResult", &[("jobid", job)]).await.0, 531);
    let zone = rig.user.ok("listZones", &NONE).await["zone"][0].clone();
    assert!(zone.get("dns1").is_none() && zone.get("id").is_some());
}

#[tokio::test]
async fn too_many_calls_are_told_when_to_come_back_in_words_alone() {
    let rig = Rig::start().await;
    let throttle = json!({"throttle": {"limit": 2, "window_ms": 60_000}});
    rig.admin.switch("settings", throttle).await;
    for _ in 0..2 {
        rig.user.ok("listZones", &NONE).await;
    }
    let refused = rig.user.refused("listZones", &NONE).await;
    assert!(refused.0 == 429 && refused.2.contains("please retry after ["), "{}", refused.2);
    for _ in 0..5 {
        rig.admin.ok("listZones", &NONE).await;
    }
    rig.admin.switch("settings", json!({"throttle": null})).await;
    rig.user.ok("listZones", &NONE).await;
    let calls: Vec<Value> = serde_json::from_value(rig.admin.see("calls").await).unwrap();
    assert_eq!(calls.iter().filter(|call| call["status"] == 429).count(), 1);
}

#[tokio::test]
async fn it_can_be_asked_for_xml() {
    let rig = Rig::start().await;
    let text = format!("apikey={}&command=listzones", encode(&rig.admin.key).to_lowercase());
    let signature = encode(&rig.admin.sign(&text));
    let target = format!("/client/api?command=listZones&apiKey={}&signature={signature}", rig.admin.key);
    let (status, body) = rig.admin.raw("GET", &target, None).await;
    assert_eq!(status, 200);
    assert!(
        body.contains("<listzonesresponse cloud-stack-version=\"4.22.0.0-SNAPSHOT\"><count>1</count>"),
        "{body}"
    );
}
