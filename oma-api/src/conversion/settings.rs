//! How conversions are run here.

use serde::Deserialize;
use shared::config::Period;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where virt-v2v looks by itself.
const VIRTIO_WIN: [&str; 2] = ["/usr/share/virtio-win/virtio-win.iso", "/usr/share/virtio-win"];
const VIRT_TOOLS: &str = "/usr/share/virt-tools";

/// The settings; every one has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The program: a name that is looked up, or a path.
    pub tool: String,
    /// The virtio drivers for Windows: the virtio-win ISO, or a folder with its content. Else where virt-v2v looks.
    pub virtio_win: Option<PathBuf>,
    /// The folder with `rhsrvany.exe`, which runs scripts at a Windows' first boot. Else where virt-v2v looks.
    pub virt_tools: Option<PathBuf>,
    /// Whether libguestfs' appliance uses KVM.
    pub accel: Accel,
    /// A folder for the appliance (some 400 MB, made once) and for what a run needs meanwhile: up to 1 GB each, and
    /// virt-v2v refuses to begin with less. It may be emptied while nothing runs.
    pub scratch: PathBuf,
    /// How long one conversion, or one look, may take.
    pub deadline: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tool: "virt-v2v-in-place".to_owned(),
            virtio_win: None,
            virt_tools: None,
            accel: Accel::Auto,
            scratch: PathBuf::from("/var/tmp/migratekit-conversion"),
            deadline: Period::seconds(3600),
        }
    }
}

/// How the appliance's processor is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// By KVM where an empty appliance starts with it, which is tried once; else by emulation.
    #[default]
    Auto,
    /// By KVM, if there is one.
    Kvm,
    /// By emulation: slow, and right where `/dev/kvm` is there and does not work.
    ForceTcg,
}

/// What a program is told of how the appliance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    Kvm,
    Emulated,
}

impl Settings {
    /// The virtio drivers, and whether they were named.
    pub(super) fn virtio_win(&self) -> PathBuf {
        let usual = || VIRTIO_WIN.iter().map(PathBuf::from).find(|path| path.exists());
        self.virtio_win.clone().or_else(usual).unwrap_or_else(|| PathBuf::from(VIRTIO_WIN[1]))
    }

    pub(super) fn virt_tools(&self) -> PathBuf {
        self.virt_tools.clone().unwrap_or_else(|| PathBuf::from(VIRT_TOOLS))
    }

    /// For a program of libguestfs, which keeps what it needs meanwhile in `run`.
    pub(super) fn environment(&self, processor: Processor, run: &Path) -> Vec<(&'static str, OsString)> {
        let backend_settings = match processor {
            Processor::Kvm => "",
            Processor::Emulated => "force_tcg",
        };
        vec![
            // Without libvirt's daemon.
            ("LIBGUESTFS_BACKEND", "direct".into()),
            ("LIBGUESTFS_BACKEND_SETTINGS", backend_settings.into()),
            ("LIBGUESTFS_CACHEDIR", self.scratch.clone().into()),
            ("TMPDIR", run.into()),
            // Said again, so that what was checked is what is used.
            ("VIRTIO_WIN", self.virtio_win().into()),
            ("VIRT_TOOLS_DATA_DIR", self.virt_tools().into()),
            // Its output is read: untranslated.
            ("LC_ALL", "C.UTF-8".into()),
            ("PATH", path()),
        ]
    }
}

/// The system's programs first: libguestfs' scripts want the Perl that they were packaged for.
pub(super) fn path() -> OsString {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let mut path = OsString::from("/usr/bin:/bin:/usr/sbin:/sbin");
    if inherited != *OsStr::new("") {
        path.push(":");
        path.push(inherited);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_and_an_unknown_one_is_refused() {
        let parse = |text: &str| serde_json::from_str::<Settings>(text);
        assert_eq!(parse("{}").expect("defaults"), Settings::default());
        let set = parse(r#"{"accel":"force_tcg","deadline":"10m","virtio_win":"/srv/virtio-win.iso"}"#);
        let set = set.expect("known ones");
        assert_eq!((set.accel, set.deadline), (Accel::ForceTcg, Period::seconds(600)));
        assert_eq!(set.virtio_win(), Path::new("/srv/virtio-win.iso"));
        parse(r#"{"virtio-win":"/x"}"#).expect_err("a typing error");
    }

    #[test]
    fn programs_are_told_where_to_be_and_how() {
        let settings = Settings { scratch: "/s".into(), ..Settings::default() };
        let told = settings.environment(Processor::Emulated, Path::new("/s/run"));
        let value =
            |name: &str| told.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        assert_eq!(value("LIBGUESTFS_BACKEND_SETTINGS"), Some("force_tcg".into()));
        assert_eq!(value("LIBGUESTFS_CACHEDIR"), Some("/s".into()));
        assert_eq!(value("TMPDIR"), Some("/s/run".into()));
        assert_eq!(value("VIRTIO_WIN"), Some(settings.virtio_win().into()));
        let told = settings.environment(Processor::Kvm, Path::new("/s/run"));
        assert!(told.contains(&("LIBGUESTFS_BACKEND_SETTINGS", "".into())));
    }
}
