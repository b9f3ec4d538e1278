//! `migratekit token …`

use super::client::{Connection, said};
use super::show::{self, Output};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use proto::v1;
use proto::v1::token_service_client::TokenServiceClient;
use serde_json::{Value, json};
use shared::config::Period;
use std::io::Write;

/// Say who may ask without a certificate: make, list and revoke bearer tokens. For the role admin.
#[derive(Debug, Args)]
pub(super) struct Token {
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
    /// Make a token and print it: once, nobody can show it again.
    ///
    /// From the first token on, everybody who asks the REST API needs one; before, this machine alone is served, unasked.
    Create {
        /// Who will use it: letters, digits, dots, dashes and underscores; unique among the living.
        name: String,
        /// viewer looks; operator acts on migrations, too; admin also decides about access.
        #[arg(long, value_enum)]
        role: Role,
        /// How long it counts, such as 30d; at most 366d.
        #[arg(long, value_name = "TIME", default_value = "90d")]
        expires: Period,
    },
    /// List tokens: who uses them, since when, until when.
    List {
        /// Expired and revoked ones too.
        #[arg(long)]
        all: bool,
    },
    /// Revoke a token: from the answer on nobody gets in with it.
    Revoke { name: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Viewer,
    Operator,
    Admin,
}

impl From<Role> for v1::AccessRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

pub(super) async fn run(args: Token, out: &mut impl Write) -> anyhow::Result<()> {
    let mut client = TokenServiceClient::new(args.connection.open().await?);
    match args.verb {
        Verb::Create { name, role, expires } => {
            let request = v1::TokenServiceCreateRequest {
                name,
                role: v1::AccessRole::from(role).into(),
                lifetime_seconds: expires.0.as_secs(),
            };
            let made = client.create(request).await.map_err(|s| said(&s))?.into_inner();
            let token = made.token.context("the control plane answered without the token's data")?;
            match args.output {
                Output::Json => {
                    let shown = json!({ "secret": made.secret, "token": token_json(&token) });
                    writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
                }
                // Alone on stdout: `migratekit token create … > FILE` keeps it and nothing else.
                Output::Table | Output::Wide => {
                    writeln!(
                        std::io::stderr(),
                        "token {} ({}, until {}); keep it now, nobody can show it again:",
                        token.name,
                        role_of(&token),
                        token.expires_at
                    )?;
                    writeln!(out, "{}", made.secret)?;
                }
            }
        }
        Verb::List { all } => {
            let answer = client.list(v1::TokenServiceListRequest {}).await.map_err(|s| said(&s))?;
            let mut tokens = answer.into_inner().tokens;
            tokens.retain(|token| all || token.status == "active");
            list(&tokens, args.output, out)?;
        }
        Verb::Revoke { name } => {
            let request = v1::TokenServiceRevokeRequest { name };
            let answer = client.revoke(request).await.map_err(|s| said(&s))?;
            list(&answer.into_inner().token.into_iter().collect::<Vec<_>>(), args.output, out)?;
        }
    }
    Ok(())
}

fn role_of(token: &v1::Token) -> String {
    let name = token.role().as_str_name();
    name.strip_prefix("ACCESS_ROLE_").unwrap_or(name).to_lowercase()
}

fn token_json(token: &v1::Token) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "id": token.id,
        "name": token.name,
        "role": role_of(token),
        "status": token.status,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "last_used_at": or_null(&token.last_used_at),
        "revoked_at": or_null(&token.revoked_at),
        "revoked_by": or_null(&token.revoked_by),
    })
}

fn list(tokens: &[v1::Token], output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Json => {
            let all: Vec<_> = tokens.iter().map(token_json).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
        Output::Table | Output::Wide if tokens.is_empty() => {
            // stdout stays empty: it is what scripts count.
            writeln!(
                std::io::stderr(),
                "no token counts; `migratekit token create NAME --role ROLE` makes one"
            )?;
        }
        Output::Table | Output::Wide => {
            let mut table =
                show::table(&["NAME", "ROLE", "STATUS", "CREATED BY", "CREATED", "EXPIRES", "LAST USED"]);
            let or_never = |at: &str| if at.is_empty() { "never".to_owned() } else { show::when(at) };
            for token in tokens {
                table.add_row([
                    Cell::new(&token.name),
                    Cell::new(role_of(token)),
                    Cell::new(&token.status),
                    Cell::new(&token.created_by),
                    Cell::new(show::when(&token.created_at)),
                    Cell::new(show::when(&token.expires_at)),
                    Cell::new(or_never(&token.last_used_at)),
                ]);
            }
            writeln!(out, "{table}")?;
        }
    }
    Ok(())
}
