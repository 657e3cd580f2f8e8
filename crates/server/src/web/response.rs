//! Response steps: for the engine that runs the container, the commands that freeze it, save evidence and stop it.

use model::finding::Finding;
use serde_json::Value;

/// One step with the command that does it.
#[derive(Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) why: &'static str,
    pub(crate) line: String,
}

/// The commands, in the order to use them, and for which engine.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) engine: &'static str,
    pub(crate) commands: Vec<Command>,
}

const FREEZE: &str = "Freeze it: nothing in it runs on, its memory and files stay.";
const INSPECT: &str = "Keep how it was set up.";
const LOGS: &str = "Keep its log.";
const CHANGES: &str = "See what was changed since the image was built.";
const FILES: &str = "Keep its files.";
const PROCESSES: &str = "See what runs in it.";
const STOP: &str = "End it, once the evidence is safe.";

/// Commands for the finding's container. Empty when it is not about a container.
pub(crate) fn commands(finding: &Finding) -> Response {
    let property = |key: &str| {
        finding
            .source_properties
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let id = property("Container_Id");
    if id.is_empty()
        || ![id, property("Pod_Name"), property("Pod_Namespace")]
            .into_iter()
            .all(is_one_line)
    {
        return Response::default();
    }
    let engine = property("Container_Engine");
    let pid = finding
        .source_properties
        .get("Host_Pid")
        .and_then(Value::as_u64);
    let mut response = match engine {
        "podman" => like_docker("Podman", "podman", id),
        "docker" => like_docker("Docker", "docker", id),
        "containerd" => {
            let namespace = if property("Pod_Name").is_empty() {
                "default"
            } else {
                "k8s.io"
            };
            containerd(namespace, id, pid)
        }
        "runc" => runc(id, pid),
        "crio" => crio(id, pid),
        _ => bare(pid),
    };
    if engine != "podman" && !property("Pod_Name").is_empty() {
        kubernetes(&mut response, finding);
    }
    response
}

fn step(why: &'static str, line: String) -> Command {
    Command { why, line }
}

fn like_docker(engine: &'static str, program: &str, id: &str) -> Response {
    let (quoted, file) = (quote(id), quote(&short(id)));
    Response {
        engine,
        commands: vec![
            step(FREEZE, format!("{program} pause {quoted}")),
            step(
                INSPECT,
                format!("{program} inspect {quoted} > {file}-inspect.json"),
            ),
            step(
                LOGS,
                format!("{program} logs --timestamps {quoted} > {file}.log 2>&1"),
            ),
            step(CHANGES, format!("{program} diff {quoted}")),
            step(
                FILES,
                format!("{program} export --output {file}.tar {quoted}"),
            ),
            step(STOP, format!("{program} kill {quoted}")),
        ],
    }
}

fn containerd(namespace: &str, id: &str, pid: Option<u64>) -> Response {
    let (quoted, file) = (quote(id), quote(&short(id)));
    let ctr = format!("ctr --namespace {namespace}");
    let mut commands = vec![
        step(FREEZE, format!("{ctr} tasks pause {quoted}")),
        step(
            INSPECT,
            format!("{ctr} containers info {quoted} > {file}-info.json"),
        ),
        step(PROCESSES, format!("{ctr} tasks ps {quoted}")),
    ];
    commands.extend(files_of(pid, &file));
    commands.push(step(
        STOP,
        format!("{ctr} tasks kill --signal SIGKILL {quoted}"),
    ));
    Response {
        engine: "containerd",
        commands,
    }
}

fn runc(id: &str, pid: Option<u64>) -> Response {
    let (quoted, file) = (quote(id), quote(&short(id)));
    let mut commands = vec![
        step(FREEZE, format!("runc pause {quoted}")),
        step(INSPECT, format!("runc state {quoted} > {file}-state.json")),
        step(PROCESSES, format!("runc ps {quoted}")),
    ];
    commands.extend(files_of(pid, &file));
    commands.push(step(STOP, format!("runc kill {quoted} KILL")));
    Response {
        engine: "runc",
        commands,
    }
}

fn crio(id: &str, pid: Option<u64>) -> Response {
    let (quoted, file) = (quote(id), quote(&short(id)));
    let mut commands = vec![
        step(FREEZE, format!("runc --root /run/runc pause {quoted}")),
        step(
            INSPECT,
            format!("crictl inspect {quoted} > {file}-inspect.json"),
        ),
        step(
            LOGS,
            format!("crictl logs --timestamps {quoted} > {file}.log 2>&1"),
        ),
    ];
    commands.extend(files_of(pid, &file));
    commands.push(step(STOP, format!("crictl stop --timeout 0 {quoted}")));
    Response {
        engine: "CRI-O",
        commands,
    }
}

fn bare(pid: Option<u64>) -> Response {
    let Some(pid) = pid else {
        return Response::default();
    };
    let mut commands = vec![
        step(
            "See whether the process is still there, and that the pid is still its own.",
            format!("ps -o pid,lstart,user,args -p {pid}"),
        ),
        step(
            "Stop the process where it stands.",
            format!("kill -STOP {pid}"),
        ),
    ];
    commands.extend(files_of(Some(pid), "container"));
    commands.push(step(
        "End the process, once the evidence is safe.",
        format!("kill -KILL {pid}"),
    ));
    Response {
        engine: "no known engine",
        commands,
    }
}

/// For engines that cannot export: through the process, while it lives or is frozen.
fn files_of(pid: Option<u64>, file: &str) -> Option<Command> {
    let pid = pid?;
    Some(step(
        "Keep its files, through its process (while that is there; check the pid first).",
        format!("tar --one-file-system -C /proc/{pid}/root -cf {file}.tar ."),
    ))
}

fn kubernetes(response: &mut Response, finding: &Finding) {
    let property = |key: &str| {
        finding
            .source_properties
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (namespace, pod) = (
        quote(property("Pod_Namespace")),
        quote(property("Pod_Name")),
    );
    let name = property("Container_Name");
    let container = if name.is_empty() || !is_one_line(name) {
        String::new()
    } else {
        format!(" --container {}", quote(name))
    };
    response.commands.extend([
        step(
            "Kubernetes: keep the pod's description.",
            format!("kubectl --namespace {namespace} get pod {pod} --output yaml > {pod}.yaml"),
        ),
        step(
            "Kubernetes: keep the pod's log.",
            format!("kubectl --namespace {namespace} logs {pod}{container} --timestamps > {pod}.log"),
        ),
        step(
            "Kubernetes: end the pod, once the evidence is safe. Its controller starts a new one from the same image.",
            format!("kubectl --namespace {namespace} delete pod {pod}"),
        ),
    ]);
}

fn short(id: &str) -> String {
    let safe: String = id
        .chars()
        .filter(|character| character.is_ascii_alphanumeric())
        .take(12)
        .collect();
    format!("container-{safe}")
}

/// A command that is copied must be what is seen: no control character, nothing invisible.
fn is_one_line(text: &str) -> bool {
    model::text::escape_terminal(text) == text
}

/// One word of a POSIX shell.
fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    if !word.is_empty() && !word.starts_with('-') && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(properties: &[(&str, &str)]) -> Finding {
        let mut finding = Finding::default();
        for (key, value) in properties {
            finding
                .source_properties
                .insert((*key).to_owned(), (*value).into());
        }
        finding
    }

    #[test]
    fn every_engine_freezes_before_it_stops() {
        for engine in ["podman", "docker", "containerd", "runc", "crio"] {
            let response = commands(&finding(&[
                ("Container_Id", "abc123"),
                ("Container_Engine", engine),
            ]));
            let lines: Vec<&str> = response
                .commands
                .iter()
                .map(|command| command.line.as_str())
                .collect();
            assert!(lines.first().unwrap().contains("pause abc123"), "{lines:?}");
            assert!(lines.last().unwrap().contains("abc123"), "{lines:?}");
        }
    }

    #[test]
    fn a_hostile_id_stays_one_word_or_there_are_no_commands() {
        let response = commands(&finding(&[
            ("Container_Id", "a'; rm -rf / #"),
            ("Container_Engine", "docker"),
        ]));
        assert_eq!(
            response.commands[0].line,
            r"docker pause 'a'\''; rm -rf / #'"
        );
        for id in ["a\nreboot", "a\u{202e}b", ""] {
            let response = commands(&finding(&[
                ("Container_Id", id),
                ("Container_Engine", "docker"),
            ]));
            assert_eq!(response.commands, []);
        }
    }
}
