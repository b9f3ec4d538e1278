//! Two accounts, a root admin and a plain user, with their keys in files; and what limits say of them.

use super::call::{Call, Caller};
use super::list;
use super::refusal::Refusal;
use super::state::State;
use super::world::World;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The plain user's ids are the same at every start.
const PLAIN_ACCOUNT: &str = "6b2f0c34-9d0e-4b1a-8e57-2a3d5c7e9f01";
const PLAIN_USER: &str = "6b2f0c34-9d0e-4b1a-8e57-2a3d5c7e9f02";

/// Resource types that are counted, by their numbers.
pub(super) const VMS: &str = "0";
pub(super) const VOLUMES: &str = "2";
pub(super) const PRIMARY_STORAGE: &str = "10";

/// Who may call, and with which keys.
pub(super) struct Account {
    pub(super) caller: Caller,
    pub(super) api_key: String,
    pub(super) secret_key: String,
}

/// The files with an account's keys.
pub(super) fn key_files(dir: &Path, who: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{who}.api-key")), dir.join(format!("{who}.secret-key")))
}

/// Both accounts; their keys are made where they are missing, and the plain one is added to the world.
pub(super) fn accounts(dir: &Path, world: &mut World) -> anyhow::Result<Vec<Account>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let admin = world.all("user").first().context("the world has no user")?.clone();
    let mut account = world.all("account").first().context("the world has no account")?.clone();
    let (api_key, secret_key) = keys(dir, "admin")?;
    let caller = Caller {
        account: text(&admin["account"]),
        account_id: text(&account["id"]),
        user_id: text(&admin["id"]),
        is_admin: true,
    };
    let mut accounts = vec![Account { caller, api_key, secret_key }];
    let (api_key, secret_key) = keys(dir, "user")?;
    let caller = Caller {
        account: "plain".to_owned(),
        account_id: PLAIN_ACCOUNT.to_owned(),
        user_id: PLAIN_USER.to_owned(),
        is_admin: false,
    };
    accounts.push(Account { caller, api_key, secret_key });
    let mut user = admin;
    user["id"] = json!(PLAIN_USER);
    user["username"] = json!("plain");
    user["account"] = json!("plain");
    user["accountid"] = json!(PLAIN_ACCOUNT);
    account["id"] = json!(PLAIN_ACCOUNT);
    account["name"] = json!("plain");
    for object in [&mut user, &mut account] {
        object["accounttype"] = json!(0);
        object["roletype"] = json!("User");
        object["rolename"] = json!("User");
        object["isdefault"] = json!(false);
    }
    account["user"] = json!([user]);
    if world.get("account", PLAIN_ACCOUNT).is_none() {
        world.add("user", user);
        world.add("account", account);
    }
    Ok(accounts)
}

fn keys(dir: &Path, who: &str) -> anyhow::Result<(String, String)> {
    let (api, secret) = key_files(dir, who);
    Ok((key(&api)?, key(&secret)?))
}

/// 64 random bytes, as CloudStack's; for this user's eyes only.
fn key(file: &Path) -> anyhow::Result<String> {
    if let Ok(text) = std::fs::read_to_string(file) {
        return Ok(text.trim().to_owned());
    }
    let key = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 64]>());
    let mut options = std::fs::OpenOptions::new();
    let mut made = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    std::io::Write::write_all(&mut made, key.as_bytes())
        .with_context(|| format!("write {}", file.display()))?;
    Ok(key)
}

/// How much of a type an account has, in the unit of its limit.
fn used(state: &State, account: &str, resource: &str) -> i64 {
    let vms = state.vms.iter().filter(|vm| vm.account == account && !vm.removed).count();
    let volumes: Vec<_> =
        state.volumes.iter().filter(|volume| volume.account == account && !volume.removed).collect();
    let bytes: u64 = volumes.iter().map(|volume| volume.size).sum();
    let used = match resource {
        VMS => u64::try_from(vms),
        VOLUMES => u64::try_from(volumes.len()),
        PRIMARY_STORAGE => return i64::try_from(bytes).unwrap_or(i64::MAX),
        _ => Ok(0),
    };
    i64::try_from(used.unwrap_or(u64::MAX)).unwrap_or(i64::MAX)
}

/// Refuses what would be more than the account may have.
pub(super) fn within_limit(
    state: &State,
    account: &str,
    resource: &str,
    more: u64,
    exception: u32,
) -> Result<(), Refusal> {
    let Some(max) = state.limits.get(&format!("{account}/{resource}")).copied().filter(|max| *max >= 0)
    else {
        return Ok(());
    };
    let (name, limit) = match resource {
        VMS => ("user_vm", max),
        VOLUMES => ("volume", max),
        // This one's limit is in GiB.
        _ => ("primary_storage", max.saturating_mul(1 << 30)),
    };
    let used = used(state, account, resource);
    if used.saturating_add(i64::try_from(more).unwrap_or(i64::MAX)) <= limit {
        return Ok(());
    }
    Err(Refusal::quota(
        exception,
        format!(
            "Maximum amount of resources of Type = '{name}', tag = 'null' for Account Name = {account} in Domain Id = 1 \
             is exceeded: Account Resource Limit = {limit}, Current Account Resource Amount = {used}, Requested Resource \
             Amount = {more}."
        ),
    ))
}

/// `listResourceLimits`: the recorded ones, with what was set for the account.
pub(super) fn list_limits(call: &Call<'_>) -> Result<Value, Refusal> {
    let account = call.params.get("account").unwrap_or(&call.caller.account).to_owned();
    let wanted = call.params.get("resourcetype");
    let known = call.sim.world.all("resourcelimit").iter();
    let limits = call.sim.read(|state| {
        let shown =
            known.filter(|limit| wanted.is_none_or(|wanted| limit["resourcetype"] == wanted)).map(|limit| {
                let mut limit = limit.clone();
                let resource = limit["resourcetype"].as_str().unwrap_or_default();
                if let Some(max) = state.limits.get(&format!("{account}/{resource}")) {
                    limit["max"] = json!(max);
                }
                limit["account"] = json!(account);
                limit
            });
        shown.collect::<Vec<_>>()
    });
    list::page(call, "resourcelimit", limits)
}

/// `updateResourceLimit`.
pub(super) fn set_limit(call: &Call<'_>) -> Result<Value, Refusal> {
    let account = call.params.get("account").unwrap_or(&call.caller.account).to_owned();
    let resource = call.params.required("resourcetype").to_owned();
    let max = call.params.number("max").unwrap_or(-1);
    let known = call.sim.world.all("resourcelimit").iter().find(|limit| limit["resourcetype"] == resource);
    let mut limit =
        known.cloned().ok_or_else(|| Refusal::value(format!("Invalid resource type {resource}")))?;
    call.sim.change(|state| state.limits.insert(format!("{account}/{resource}"), max));
    limit["max"] = json!(max);
    limit["account"] = json!(account);
    Ok(json!({"resourcelimit": limit}))
}

/// `listUsers` and `listAccounts`: all of them to an admin, to a user what is theirs.
pub(super) fn list(call: &Call<'_>, kind: &str) -> Result<Value, Refusal> {
    let name = if kind == "user" { "account" } else { "name" };
    let objects = call.sim.world.all(kind).iter();
    let seen = objects
        .filter(|object| {
            let is_own = object[name] == call.caller.account.as_str();
            is_own || call.caller.is_admin && call.params.flag("listall") == Some(true)
        })
        .filter(|object| list::matches(call, object, &["id", "username", "name", "account", "state"]))
        .cloned();
    list::page(call, kind, seen.collect())
}
