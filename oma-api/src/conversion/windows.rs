//! Whether a Windows guest can find its disks on virtio: whether its registry starts viostor at boot, and the driver is
//! there.
//!
//! Pure: what the registry says in, a verdict out.

use super::guest::Virtio;

/// The service of the virtio-blk driver. As for Linux, a guest that only has that of virtio-scsi is not ready.
pub(super) const SERVICE: &str = "viostor";

/// Where the driver is when the service does not say.
pub(super) const DRIVER: &str = "System32\\drivers\\viostor.sys";

/// What the guest says of that service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// 0: with the boot loader; 3: when somebody asks; 4: never.
    pub start: Option<u32>,
    /// The driver's file, as the guest's path, and whether it is there.
    pub driver: (String, bool),
}

/// The verdict. `None`: there is no such service.
pub(super) fn virtio(service: Option<&Service>) -> Virtio {
    let Some(service) = service else {
        return Virtio::Missing { why: format!("there is no service {SERVICE} in the registry") };
    };
    let (driver, there) = &service.driver;
    match service.start {
        None => Virtio::Missing { why: format!("the service {SERVICE} has no Start") },
        Some(start @ 1..) => Virtio::Missing {
            why: format!("the service {SERVICE} has Start={start}, not 0: it comes too late"),
        },
        Some(0) if !there => Virtio::Missing { why: format!("{driver} is not there") },
        Some(0) => Virtio::Ready { why: format!("the service {SERVICE} has Start=0, and {driver} is there") },
    }
}

/// A driver's path in the guest's file system, from what the service says of it: `\SystemRoot\System32\…`,
/// `system32\…`, `\??\C:\Windows\…`. `root` is where Windows is (`/Windows`).
pub(super) fn driver_path(root: &str, image: Option<&str>) -> String {
    let image = image.map(str::trim).filter(|image| !image.is_empty()).unwrap_or(DRIVER);
    let image = image.strip_prefix("\\??\\").unwrap_or(image).replace('\\', "/");
    let lower = image.to_ascii_lowercase();
    let under = |start: &str| lower.starts_with(start).then(|| image.get(start.len()..)).flatten();
    if let Some(rest) = under("/systemroot/").or_else(|| under("%systemroot%/")) {
        return format!("{root}/{rest}");
    }
    match image.split_once(":/") {
        Some((drive, rest)) if drive.len() == 1 => format!("/{rest}"),
        _ => format!("{root}/{}", image.trim_start_matches('/')),
    }
}

/// A number of the registry.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_le_bytes)
}

/// A text of the registry: UTF-16 up to its zero.
pub(super) fn text(value: &[u8]) -> String {
    let units =
        value.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |sum, byte| sum << 8 | u16::from(*byte)));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(start: Option<u32>, there: bool) -> Virtio {
        virtio(Some(&Service { start, driver: ("/Windows/x.sys".into(), there) }))
    }

    #[test]
    fn ready_is_a_driver_that_is_there_and_starts_with_the_boot_loader() {
        let ready = "the service viostor has Start=0, and /Windows/x.sys is there";
        assert_eq!(service(Some(0), true), Virtio::Ready { why: ready.into() });
        assert_eq!(service(Some(0), false), Virtio::Missing { why: "/Windows/x.sys is not there".into() });
        for virtio in [virtio(None), service(Some(3), true), service(Some(4), true), service(None, true)] {
            assert!(matches!(virtio, Virtio::Missing { .. }), "{virtio:?}");
        }
    }

    #[test]
    fn a_driver_is_found_however_it_is_written() {
        let cases = [
            (None, "/Windows/System32/drivers/viostor.sys"),
            (Some(""), "/Windows/System32/drivers/viostor.sys"),
            (Some("system32\\drivers\\viostor.sys"), "/Windows/system32/drivers/viostor.sys"),
            (Some("\\SystemRoot\\System32\\drivers\\a.sys"), "/Windows/System32/drivers/a.sys"),
            (Some("%SystemRoot%\\a.sys"), "/Windows/a.sys"),
            (Some("\\??\\C:\\Windows\\a.sys"), "/Windows/a.sys"),
        ];
        for (image, path) in cases {
            assert_eq!(driver_path("/Windows", image), path);
        }
    }

    #[test]
    fn values_of_the_registry_are_read_and_odd_ones_refused() {
        assert_eq!(number(&[3, 0, 0, 0]), Some(3));
        assert_eq!(number(&[3, 0]), None);
        assert_eq!(text(b"a\0b\0\0\0c\0"), "ab");
        assert_eq!(text(b"a"), "");
    }
}
