use super::*;

pub(super) fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the repository").to_owned()
}

#[test]
fn the_repository_keeps_the_house_rules() {
    let root = repository();
    for (package, _) in EDGES {
        assert!(
            !rust_files(&root.join(package)).is_empty(),
            "{package} was not found: nothing was looked at"
        );
    }
    let found = violations(&root);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// What `violations` says of a repository with one file.
fn of(path: &str, text: &str) -> Vec<String> {
    let root = tempfile::tempdir().expect("temporary folder");
    let file = root.path().join(path);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    std::fs::write(&file, text).expect("written");
    violations(root.path())
}

fn red(path: &str, text: &str) {
    let found = of(path, text);
    assert_eq!(found.len(), 1, "{path} with {text:?}: {found:?}");
    assert!(found[0].starts_with(path), "{found:?}");
}

fn green(path: &str, text: &str) {
    assert_eq!(of(path, text), Vec::<String>::new(), "{path} with {text:?}");
}

#[test]
fn generated_types_stay_at_the_edges() {
    let text = "use proto::v1::Disk;\n";
    red("oma-api/src/service/sync.rs", text);
    red("vma-agent/src/cycle.rs", "fn f(d: &proto::v1::Disk) {}\n");
    red("migratekit/src/copy/mod.rs", text);
    for edge in [
        "shared/src/wire.rs",
        "shared/src/wire/disk.rs",
        "oma-api/src/grpc/push.rs",
        "vma-agent/src/connect.rs",
    ] {
        green(edge, text);
    }
    red("shared/src/wired.rs", text);
    red("shared/src/wire.rs", "pub use proto as raw;\n");
    green("oma-api/src/service/sync.rs", "// as proto::v1::Disk has it\nuse my_proto::v1; // proto::v1\n");
}

#[test]
fn sql_lives_in_the_store() {
    red("oma-api/src/service/sync.rs", "    sqlx::query(\"SELECT 1\");\n");
    red("shared/src/ids.rs", "#[derive(sqlx::Type)]\n");
    green("oma-api/src/store/disks.rs", "use sqlx::Any;\n");
}

#[test]
fn unsafe_code_lives_in_one_place() {
    red("migratekit/src/nbd/handle.rs", "    let x = unsafe { y() };\n");
    red("migratekit/src/lib.rs", "#[allow(unsafe_code)]\n");
    red("integration-tests/src/live_vm/mod.rs", "unsafe extern \"C\" {}\n");
    red("migratekit/src/nbd/sys.rs", "unsafe extern \"C\" {}\n");
    green("migratekit/src/nbd/ffi.rs", "let x = unsafe { y() };\n");
    green("migratekit/src/nbd/ffi/sys.rs", "unsafe extern \"C\" {}\n");
    green("migratekit/src/lib.rs", "#![deny(unsafe_code)]\n");
}

#[test]
fn the_state_machine_has_no_clock_and_no_io() {
    for text in
        ["use std::time::SystemTime;", "let t = Timestamp::now();", "use tokio::time;", "std::fs::read(p)"]
    {
        red("shared/src/migration/table.rs", text);
        red("shared/src/migration.rs", text);
        green("shared/src/telemetry.rs", text);
    }
}

#[test]
fn handlers_call_services_only() {
    red("oma-api/src/grpc/migration.rs", "use crate::store::Store;\n");
    red("oma-api/src/grpc/migration.rs", "self.app.store.agent_list().await\n");
    green("oma-api/src/grpc/migration.rs", "use crate::store::{Disk, Job};\n");
    red("oma-api/src/rest/jobs.rs", "use crate::linstor::Client;\n");
    green("oma-api/src/service/sync.rs", "use crate::store::Store;\n");
    red("oma-api/src/workflow/engine.rs", "use crate::failover::Live;\n");
}

#[test]
fn packages_depend_downwards_only() {
    red("vma-agent/Cargo.toml", "[dependencies]\noma-api.workspace = true\n");
    red("oma-api/Cargo.toml", "[dev-dependencies]\nvma-agent = { path = \"../vma-agent\" }\n");
    red("shared/Cargo.toml", "[dependencies]\nmigratekit.workspace = true\n");
    green(
        "vma-agent/Cargo.toml",
        "[package]\nname = \"vma-agent\"\n[dependencies]\nshared.workspace = true\n",
    );
}

#[test]
fn files_are_short_and_main_is_shorter() {
    let lines = |n: usize| "//\n".repeat(n);
    green("shared/src/a.rs", &lines(500));
    red("shared/src/a.rs", &lines(501));
    green("oma-api/src/main.rs", &lines(60));
    red("oma-api/src/main.rs", &lines(61));
}

#[test]
fn nothing_new_lies_at_the_top() {
    assert_eq!(of("utils/src/lib.rs", "").len(), 1);
    for fine in ["deploy/x", ".ci/run", "README.md"] {
        green(fine, "");
    }
    let root = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(root.path().join("target")).expect("made");
    assert_eq!(violations(root.path()).len(), 1, "nothing says that it is no source");
    std::fs::write(root.path().join(".gitignore"), "/target/\n").expect("written");
    assert_eq!(violations(root.path()), Vec::<String>::new());
}
