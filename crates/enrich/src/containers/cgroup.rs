//! Reads container ids out of control group paths, for every engine, driver and cgroup version.

use model::enriched::Engine;

/// A container that a cgroup path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The engine, when the path alone tells.
    pub engine: Option<Engine>,
    /// The container's id: 64 lower-case hex digits.
    pub id: &'a str,
    /// The container's own cgroup: the path up to and with the id. What follows belongs to the container.
    pub cgroup: &'a [u8],
}

/// The container that `path` is in, by the naming of Docker, Podman, containerd (CRI and nerdctl) and CRI-O, for the cgroupfs and
/// the systemd driver. `None` when nothing in it is a container's id: a host process, or a container whose cgroup was named
/// freely (ctr, runc).
///
/// The outermost id wins. A container that may write its own cgroup could otherwise create a child with the name of
/// another container and pass for it.
pub fn parse(path: &[u8]) -> Option<Named<'_>> {
    let mut parent: &[u8] = b"";
    let mut end = 0;
    for component in path.split(|&byte| byte == b'/') {
        end += component.len();
        if let Some((engine, id)) = parse_component(component, parent) {
            let cgroup = path.get(..end).unwrap_or(path);
            return Some(Named { engine, id, cgroup });
        }
        if !component.is_empty() {
            parent = component;
        }
        // The separator that follows.
        end += 1;
    }
    None
}

fn parse_component<'a>(component: &'a [u8], parent: &[u8]) -> Option<(Option<Engine>, &'a str)> {
    let name = component.strip_suffix(b".scope").unwrap_or(component);
    // A systemd cgroup name (slice:prefix:id) given to a runtime with the cgroupfs driver becomes one directory of that name.
    if let Some((prefix, id)) = split_last(name, b':') {
        let prefix = split_last(prefix, b':').map_or(prefix, |(_, last)| last);
        return container_id(id).map(|id| (engine_of_prefix(prefix), id));
    }
    if let Some((prefix, id)) = split_last(name, b'-') {
        // `libpod-conmon-ID` and `crio-conmon-ID` are the monitor, a host process.
        return container_id(id)
            .and_then(|id| engine_of_prefix(prefix).map(|engine| (Some(engine), id)));
    }
    let id = container_id(name)?;
    match parent {
        b"docker" => Some((Some(Engine::Docker), id)),
        // A pod: its containers are the children.
        b"libpod_parent" => None,
        _ => Some((None, id)),
    }
}

fn engine_of_prefix(prefix: &[u8]) -> Option<Engine> {
    match prefix {
        b"docker" => Some(Engine::Docker),
        b"libpod" => Some(Engine::Podman),
        b"cri-containerd" | b"nerdctl" => Some(Engine::Containerd),
        b"crio" => Some(Engine::Crio),
        _ => None,
    }
}

/// True for the ids that engines draw at random, which are never used twice.
pub(super) fn is_random_id(id: &str) -> bool {
    container_id(id.as_bytes()).is_some()
}

fn container_id(text: &[u8]) -> Option<&str> {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 64 && text.iter().all(hex) {
        std::str::from_utf8(text).ok()
    } else {
        None
    }
}

fn split_last(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "885b667d4fcde37b0ed18b05a54ec704b30b0e1361f3be71d5760c33c8cc1426";
    const B: &str = "982b16f225716ff2f46fdd56bc0f3a7b5ad330360759c708252687e9e8429c9e";

    /// `A` and `B` in a path stand for two ids; the container is `A`, its cgroup ends where `cgroup` does.
    fn check(path: &str, engine: Option<Engine>, cgroup: &str) {
        let fill = |text: &str| text.replace("{A}", A).replace("{B}", B);
        let (path, cgroup) = (fill(path), fill(cgroup));
        let named = parse(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(named.engine, engine, "{path}");
        assert_eq!(named.id, A, "{path}");
        assert_eq!(named.cgroup, cgroup.as_bytes(), "{path}");
    }

    #[test]
    fn every_engine_and_driver() {
        use Engine::{Containerd, Crio, Docker, Podman};
        for (path, engine) in [
            ("/docker/{A}", Some(Docker)),
            ("/system.slice/docker-{A}.scope", Some(Docker)),
            ("/libpod_parent/libpod-{A}", Some(Podman)),
            ("/libpod_parent/{B}/libpod-{A}", Some(Podman)),
            ("/machine.slice/libpod-{A}.scope", Some(Podman)),
            (
                "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
                Some(Podman),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope",
                Some(Podman),
            ),
            ("/system.slice/nerdctl-{A}.scope", Some(Containerd)),
            ("/default/{A}", None),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f1e.slice/cri-containerd-{A}.scope",
                Some(Containerd),
            ),
            (
                "/kubepods.slice/kubepods-pod0f1e.slice/crio-{A}.scope",
                Some(Crio),
            ),
            (
                "/kubepods.slice/kubepods-pod0f1e.slice/docker-{A}.scope",
                Some(Docker),
            ),
            ("/kubepods/burstable/pod0f1e-22/{A}", None),
            ("/kubepods/pod0f1e-22/crio-{A}", Some(Crio)),
            (
                "/system.slice/containerd.service/kubepods-pod0f1e.slice:cri-containerd:{A}",
                Some(Containerd),
            ),
            ("/system.slice:docker:{A}", Some(Docker)),
            ("/ecs/3f2a/{A}", None),
            ("{A}", None),
        ] {
            check(path, engine, path);
        }
    }

    #[test]
    fn what_is_below_belongs_to_the_container() {
        use Engine::{Docker, Podman};
        for (path, engine, cgroup) in [
            ("/docker/{A}/init.scope", Some(Docker), "/docker/{A}"),
            (
                "/docker/{A}/system.slice/nginx.service",
                Some(Docker),
                "/docker/{A}",
            ),
            (
                "/machine.slice/libpod-{A}.scope/container",
                Some(Podman),
                "/machine.slice/libpod-{A}.scope",
            ),
            // A container runs an engine of its own, or pretends to.
            ("/docker/{A}/docker/{B}", Some(Docker), "/docker/{A}"),
            (
                "/kubepods/pod1/{A}/libpod-{B}.scope",
                None,
                "/kubepods/pod1/{A}",
            ),
        ] {
            check(path, engine, cgroup);
        }
    }

    #[test]
    fn host_paths_and_free_names_are_not_ids() {
        for path in [
            "",
            "/",
            "/init.scope",
            "/system.slice/docker.service",
            "/system.slice/docker-proxy.scope",
            "/user.slice/user-0.slice/session-1.scope",
            "/libpod_parent/conmon",
            "/machine.slice/libpod-conmon-{A}.scope",
            "/machine.slice/crio-conmon-{A}.scope",
            "/libpod_parent/{A}",
            "/docker",
            "/docker/885b667d4fcd",
            "/docker/885B667D4FCDE37B0ED18B05A54EC704B30B0E1361F3BE71D5760C33C8CC1426",
            "/default/ct1",
            "/system.slice/app-{A}.service",
            "/system.slice/some-{A}.scope",
        ] {
            let path = path.replace("{A}", A);
            assert_eq!(parse(path.as_bytes()), None, "{path}");
        }
        assert_eq!(parse(b"/docker/\xff\xfe/::/-/"), None);
    }
}
