//! The container in which this process runs, if any.

use std::fs;

/// Files that an engine mounts into each container from a directory named after the container.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// Length of a container's id, in hex digits.
const ID: usize = 64;

/// The id of the container in which this process runs. `None` on a host. It may belong to another engine than the one that is asked.
pub(super) fn container_id() -> Option<String> {
    id_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The id in a list of mounts (proc(5), `/proc/[pid]/mountinfo`): the fourth field is the mounted path in its file system, the fifth
/// the mount point.
fn id_in(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let is_id =
            |part: &&str| part.len() == ID && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !MOUNTED.contains(&mount_point) {
            return None;
        }
        root.split('/').find(is_id).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_the_files_that_its_engine_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let mounts = |root: &str, at: &str| {
            format!(
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n35 27 254:0 {root} {at} rw,relatime - ext4 /dev/vda rw\n"
            )
        };
        let docker = format!("/var/lib/docker/containers/{id}/hostname");
        assert_eq!(id_in(&mounts(&docker, "/etc/hostname")), Some(id.clone()));
        assert_eq!(id_in(&mounts(&docker, "/srv/hostname")), None, "a volume of the operator");
        assert_eq!(id_in(&mounts("/", "/etc/hosts")), None);
        assert_eq!(id_in(&mounts(&format!("/c/{}/hosts", &id[1..]), "/etc/hosts")), None);
        assert_eq!(id_in(""), None);
    }
}
