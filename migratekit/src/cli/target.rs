//! `migratekit target …`

mod say;

pub(super) use say::Unusable;

use super::client::{Channel, Connection, said};
use super::show::{self, Output, number};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::v1;
use proto::v1::target_profile_service_client::TargetProfileServiceClient;
use say::Say;
use serde_json::{Value, json};
use shared::ids::ProfileName;
use shared::profile::{Backend, Settings};
use shared::wire::{profile_from_wire, profile_to_wire};
use std::io::Write;

/// Name where and how VMs are made on the target.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// How the result is printed.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a target profile.
    Create(Say),
    /// Show one profile.
    Get(Of),
    /// List profiles, by name.
    List,
    /// Change what is given, and leave the rest; with --file, replace all of it.
    Update {
        #[command(flatten)]
        say: Say,
        /// Only if it still has this generation (`get` shows it); by default, that it has when the command starts
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        generation: Option<u64>,
    },
    /// Remove a profile that no unfinished migration refers to.
    Delete {
        #[command(flatten)]
        of: Of,
        /// Only if it still has this generation
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        generation: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct Of {
    /// 1 to 64 of a-z 0-9 -
    #[arg(value_name = "NAME")]
    name: ProfileName,
}

pub(super) async fn run(args: Target, out: &mut impl Write) -> anyhow::Result<()> {
    // What is wrong with the arguments is said before anything is dialled.
    let made = match &args.verb {
        Verb::Create(say) => Some(say.settings(Settings::new(Backend::Local))?),
        Verb::Update { say, .. } if say.is_nothing() => return Err(Unusable::Nothing.into()),
        Verb::Update { say, .. } => {
            say.settings(Settings::new(Backend::Local))?;
            None
        }
        Verb::Get(_) | Verb::List | Verb::Delete { .. } => None,
    };
    let channel = args.connection.open().await?;
    let mut client = TargetProfileServiceClient::new(channel.clone());
    let profile = match args.verb {
        Verb::Create(say) => {
            let settings = made.unwrap_or_else(|| Settings::new(Backend::Local));
            let profile = Some(profile_to_wire(&say.of.name, settings));
            let request = v1::TargetProfileServiceCreateRequest { profile };
            client.create(request).await.map_err(|s| said(&s))?.into_inner().profile
        }
        Verb::Get(of) => Some(get(channel, &of.name).await?),
        Verb::List => {
            let request = v1::TargetProfileServiceListRequest {};
            let all = client.list(request).await.map_err(|s| said(&s))?.into_inner().profiles;
            return list(&all, args.output, out);
        }
        Verb::Update { say, generation } => {
            let before = get(channel, &say.of.name).await?;
            let generation = generation.unwrap_or(before.generation);
            let (name, settings) = profile_from_wire(before)?;
            let changed = profile_to_wire(&name, say.settings(settings)?);
            let profile = Some(v1::TargetProfile { generation, ..changed });
            let request = v1::TargetProfileServiceUpdateRequest { profile };
            client.update(request).await.map_err(|s| said(&s))?.into_inner().profile
        }
        Verb::Delete { of, generation } => {
            let request = v1::TargetProfileServiceDeleteRequest {
                name: of.name.into(),
                generation: generation.unwrap_or(0),
            };
            client.delete(request).await.map_err(|s| said(&s))?;
            return Ok(());
        }
    };
    one(&profile.unwrap_or_default(), args.output, out)
}

async fn get(channel: Channel, name: &ProfileName) -> anyhow::Result<v1::TargetProfile> {
    let request = v1::TargetProfileServiceGetRequest { name: name.to_string() };
    let answer = TargetProfileServiceClient::new(channel).get(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().profile.unwrap_or_default())
}

fn json_of(profile: &v1::TargetProfile) -> anyhow::Result<Value> {
    let (_, settings) = profile_from_wire(profile.clone())?;
    Ok(json!({
        "name": profile.name,
        "settings": settings,
        "generation": profile.generation,
        "created_at": profile.created_at,
        "updated_at": profile.updated_at,
    }))
}

fn one(profile: &v1::TargetProfile, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json_of(profile)?)?)?,
        Output::Table | Output::Wide => writeln!(out, "{}", text(profile)?)?,
    }
    Ok(())
}

fn text(profile: &v1::TargetProfile) -> anyhow::Result<String> {
    let (name, s) = profile_from_wire(profile.clone())?;
    let default = if s.is_default { " (default)" } else { "" };
    let mut lines = vec![
        format!("profile     {name}{default}"),
        format!("generation  {}", profile.generation),
        format!("backend     {}", s.backend),
        format!("zone        {}", s.zone.as_deref().unwrap_or("any")),
    ];
    let named = [("compute", &s.compute_offering), ("disk", &s.disk_offering), ("pool", &s.storage_pool)];
    lines.extend(named.iter().filter_map(|(what, text)| Some(format!("{what:<11} {}", text.as_ref()?))));
    let maps = |live: &Option<String>, test: &Option<String>| {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        format!("live: {}, test: {}", or_none(live), or_none(test))
    };
    lines.extend(s.networks.iter().map(|m| format!("network     {}: {}", m.source, maps(&m.live, &m.test))));
    lines.extend(s.nics.iter().map(|m| format!("nic         {}: {}", m.key, maps(&m.live, &m.test))));
    lines.push(format!("mac         live: {}, test: new", s.live_mac));
    lines.push(format!("addresses   {}", s.addresses));
    if let Some(notes) = s.notes {
        lines.push(format!("notes       {}", notes.replace('\n', "\n            ")));
    }
    Ok(lines.join("\n"))
}

fn list(all: &[v1::TargetProfile], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    if output == Output::Json {
        let all = all.iter().map(json_of).collect::<anyhow::Result<Vec<_>>>()?;
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    let mut table = show::table(&["PROFILE", "BACKEND", "ZONE", "NETWORKS", "MAC", "ADDRESSES", "DEFAULT"]);
    for profile in all {
        let (name, s) = profile_from_wire(profile.clone())?;
        table.add_row([
            Cell::new(name),
            Cell::new(s.backend),
            Cell::new(s.zone.as_deref().unwrap_or("any")),
            number(s.networks.len()),
            Cell::new(s.live_mac),
            Cell::new(s.addresses),
            Cell::new(if s.is_default { "yes" } else { "" }),
        ]);
    }
    Ok(writeln!(out, "{table}")?)
}
