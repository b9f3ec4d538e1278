//! What a command is about: a VM as somebody names it, the only test of one, its live failover, all failovers of a list.

use super::super::client::{Channel, said};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;

/// Entries that are asked for at once.
const PAGE: u32 = 500;

/// The migration of a VM.
pub(super) async fn vm(channel: &Channel, vm: &str) -> anyhow::Result<v1::Migration> {
    let request = v1::GetRequest { vm: vm.to_owned(), history: 0 };
    let answer = MigrationServiceClient::new(channel.clone()).get(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().migration.unwrap_or_default())
}

/// The newest of them, at most so many, and how many there are.
pub(super) async fn failovers(
    channel: &Channel,
    of: v1::FailoverServiceListRequest,
    most: usize,
) -> anyhow::Result<(Vec<v1::Failover>, u64)> {
    let mut client = FailoverServiceClient::new(channel.clone());
    let (mut found, mut before) = (Vec::new(), String::new());
    loop {
        let left = u32::try_from(most - found.len()).unwrap_or(PAGE).clamp(1, PAGE);
        let request = v1::FailoverServiceListRequest { limit: left, before, ..of.clone() };
        let page = client.list(request).await.map_err(|s| said(&s))?.into_inner();
        found.extend(page.failovers);
        before = page.next_before;
        if before.is_empty() || found.len() >= most {
            found.truncate(most);
            return Ok((found, page.total));
        }
    }
}

/// The test that is meant: by its job, or as the only one of a VM of which something is there.
pub(super) async fn test_of(channel: &Channel, of: &str) -> anyhow::Result<String> {
    if is_job(of) {
        return Ok(of.to_owned());
    }
    let migration = vm(channel, of).await?;
    let tests = v1::FailoverServiceListRequest {
        r#type: "test".to_owned(),
        vm_id: migration.vm_uuid,
        ..v1::FailoverServiceListRequest::default()
    };
    let (found, _) = failovers(channel, tests, usize::MAX).await?;
    only(&migration.vm_name, found.iter().filter(|test| test.is_there).map(|test| test.job_id.as_str()))
}

fn is_job(of: &str) -> bool {
    of.starts_with("enhanced-") && of.contains("-failover-")
}

/// The live failover that is meant: by its job, or as the newest of a VM.
pub(super) async fn live_of(channel: &Channel, of: &str) -> anyhow::Result<String> {
    if is_job(of) {
        return Ok(of.to_owned());
    }
    let migration = vm(channel, of).await?;
    let all = v1::FailoverServiceListRequest {
        r#type: "live".to_owned(),
        vm_id: migration.vm_uuid,
        ..v1::FailoverServiceListRequest::default()
    };
    let (found, _) = failovers(channel, all, 1).await?;
    match found.into_iter().next() {
        Some(newest) => Ok(newest.job_id),
        None => anyhow::bail!(
            "{} has no live failover; `migratekit failover live {0}` begins one",
            migration.vm_name
        ),
    }
}

fn only<'a>(vm: &str, jobs: impl Iterator<Item = &'a str>) -> anyhow::Result<String> {
    let jobs: Vec<_> = jobs.collect();
    match jobs.as_slice() {
        [] => anyhow::bail!(
            "nothing of a test of {vm} is there; `migratekit failover list --vm {vm}` shows them"
        ),
        [job] => Ok((*job).to_owned()),
        several => anyhow::bail!(
            "there are {} tests of {vm}; name the one that is meant: {}",
            several.len(),
            several.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn a_vm_stands_for_its_only_test() {
        let of = |jobs: &[&str]| only("web", jobs.iter().copied()).map_err(|error| error.to_string());
        assert_eq!(of(&["a"]), Ok("a".to_owned()));
        assert!(of(&[]).expect_err("none").contains("nothing"));
        let said = of(&["a", "b"]).expect_err("which?");
        assert!(said.contains("2 tests") && said.contains("a, b"), "{said}");
    }
}
