//! `migratekit dev-ca`: certificates for development, and the line to look at the daemons with.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use migratekit::dev_ca::{CA_DAYS, Existing, Folder, Holder, Made, make};
use shared::config::ports;
use shared::ids::AgentId;
use shared::tls::{Files, Role};

/// Make a development CA and certificates for the OMA, the agents, an operator and an admin
///
/// Writes ca.pem and ca.key, and a certificate and key (ROLE-NAME.pem, ROLE-NAME.key) for each holder. For production
/// have your own CA issue certificates with the same SAN: URI spiffe://DOMAIN/agent/ID, …/oma/NAME, …/viewer/NAME,
/// …/operator/NAME or …/admin/NAME, and the host names by which the daemon is dialled.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the files; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Id of an agent, as in its configuration; may be repeated
    #[arg(long = "agent", value_name = "ID", default_value = "vma-01")]
    agents: Vec<AgentId>,
    /// Name of the OMA
    #[arg(long, value_name = "NAME", default_value = "main")]
    oma: AgentId,
    /// Name of the operator who gets the certificate for grpcurl and migratekit
    #[arg(long, value_name = "NAME", default_value = "admin")]
    operator: AgentId,
    /// Name of the admin, who may do what the operator may, and makes tokens for others
    #[arg(long, value_name = "NAME", default_value = "root")]
    admin: AgentId,
    /// Name of somebody who only looks; may be repeated
    #[arg(long = "viewer", value_name = "NAME")]
    viewers: Vec<AgentId>,
    /// Host name or IP address by which the daemons are dialled, besides localhost, 127.0.0.1 and ::1; may be repeated
    #[arg(long = "host", value_name = "DNS/IP")]
    hosts: Vec<String>,
    /// Days for which the certificates are valid (the CA: 3650)
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS)))]
    days: u32,
    /// Replace certificates that are there; the CA that is there is kept
    #[arg(long)]
    force: bool,
}

/// Makes the certificates and prints where they lie.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let existing = if args.force { Existing::Replace } else { Existing::Refuse };
    let folder = Folder::new(&args.out);
    let holders = holders(args);
    let made = make(&folder, &holders, args.days, existing).context("the certificates could not be made")?;
    report(args, &holders, &made, out)?;
    Ok(())
}

fn holders(args: &Args) -> Vec<Holder> {
    let mut hosts: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for host in &args.hosts {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    let daemon = |role, name: &AgentId| Holder { role, name: name.clone(), hosts: hosts.clone() };
    let mut holders = vec![daemon(Role::Oma, &args.oma)];
    for id in &args.agents {
        let agent = daemon(Role::Agent, id);
        if !holders.contains(&agent) {
            holders.push(agent);
        }
    }
    let person = |role, name: &AgentId| Holder { role, name: name.clone(), hosts: Vec::new() };
    for name in &args.viewers {
        let viewer = person(Role::Viewer, name);
        if !holders.contains(&viewer) {
            holders.push(viewer);
        }
    }
    holders.push(person(Role::Admin, &args.admin));
    // Last: the lines to paste are this one's.
    holders.push(person(Role::Operator, &args.operator));
    holders
}

fn report(args: &Args, holders: &[Holder], made: &Made, out: &mut impl Write) -> std::io::Result<()> {
    let ca = args.out.join("ca.pem");
    let origin = if made.reused_ca { "kept" } else { "new" };
    writeln!(out, "CA ({origin}): {}", ca.display())?;
    for (holder, files) in holders.iter().zip(&made.files) {
        let (role, name) = (holder.role.as_str(), &holder.name);
        writeln!(out, "{role} {name}: {} {}", files.cert.display(), files.key.display())?;
    }
    let Some(operator) = made.files.last() else { return Ok(()) };
    let host = args.hosts.first().map_or("localhost", String::as_str);
    writeln!(out, "\nTo look at the running daemons:")?;
    for (port, service) in [
        (ports::OMA_GRPC, "migratekit.v1.MigrationService"),
        (ports::AGENT_DIAGNOSTICS_GRPC, "grpc.health.v1.Health"),
    ] {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        writeln!(out, "  {} {address} list", grpcurl(operator))?;
        writeln!(out, "  {} {address} describe {service}", grpcurl(operator))?;
    }
    Ok(())
}

fn grpcurl(files: &Files) -> String {
    let [ca, cert, key] =
        [&files.ca, &files.cert, &files.key].map(|path| quoted(&path.display().to_string()));
    format!("grpcurl -cacert {ca} -cert {cert} -key {key}")
}

/// For a POSIX shell: the line is there to be pasted.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: Args,
    }

    fn printed(arguments: &[&str]) -> anyhow::Result<String> {
        let args = Wrapper::try_parse_from(["dev-ca"].iter().chain(arguments))?.args;
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn prints_files_and_the_lines_to_paste() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let out = dir.path().join("it's tls");
        let out = out.to_str().expect("text");
        let agents =
            ["--agent", "a1", "--agent", "a2", "--agent", "a1", "--host", "fd00::1", "--viewer", "noc"];
        let text = printed(&[&["--out", out][..], &agents].concat()).expect("made");
        assert!(text.contains("CA (new)"), "{text}");
        assert_eq!(text.matches("\nagent ").count(), 2, "twice the same agent is one: {text}");
        assert!(text.contains("\nadmin root: ") && text.contains("/operator-admin.pem"), "{text}");
        assert!(text.contains("\nviewer noc: ") && !text.contains("/viewer-noc.pem' -key"), "{text}");
        let shown = format!("'{}/ca.pem'", out.replace('\'', r"'\''"));
        assert!(text.contains(&format!("grpcurl -cacert {shown} -cert ")), "{text}");
        assert!(text.contains(" [fd00::1]:8443 list\n"), "{text}");
        assert!(text.contains(" [fd00::1]:8444 describe grpc.health.v1.Health\n"), "{text}");

        let again = printed(&["--out", out]).expect_err("files are there");
        assert!(format!("{again:#}").contains("--force"), "{again:#}");
        let text = printed(&["--out", out, "--force"]).expect("replaced");
        assert!(text.contains("CA (kept)"), "{text}");
    }

    #[test]
    fn an_id_that_could_leave_the_folder_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let out = dir.path().to_str().expect("text");
        printed(&["--out", out, "--agent", "../x"]).expect_err("no id");
        assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
    }
}
