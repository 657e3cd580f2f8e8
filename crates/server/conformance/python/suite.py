"""Google's Python client, over plain REST and over gRPC with TLS, against a running server.

HULLWATCH_ADDRESS and HULLWATCH_TLS_ADDRESS are host and port, HULLWATCH_CA is the certificate, HULLWATCH_TOKEN an
admin's token.
"""

import itertools
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import grpc
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import securitycenter_v2 as scc
from google.cloud.securitycenter_v2.services.security_center.transports import (
    SecurityCenterGrpcTransport,
    SecurityCenterRestTransport,
)
from google.oauth2.credentials import Credentials
from google.protobuf import descriptor_pb2, field_mask_pb2
from google.protobuf.json_format import MessageToDict

ADDRESS = os.environ["HULLWATCH_ADDRESS"]
TOKEN = os.environ["HULLWATCH_TOKEN"]
README = Path(__file__).parents[4] / "README.md"
ORGANIZATION = "organizations/1"
GLOBAL = f"{ORGANIZATION}/locations/global"
Finding = scc.Finding
UNIQUE = itertools.count(os.getpid() * 1000)


def rest(token):
    return scc.SecurityCenterClient(
        transport=SecurityCenterRestTransport(host=ADDRESS, url_scheme="http", credentials=Credentials(token=token))
    )


def over_grpc(token):
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(Path(os.environ["HULLWATCH_CA"]).read_bytes()),
        grpc.access_token_call_credentials(token),
    )
    channel = grpc.secure_channel(os.environ["HULLWATCH_TLS_ADDRESS"], credentials)
    return scc.SecurityCenterClient(transport=SecurityCenterGrpcTransport(channel=channel))


def mask(*paths):
    return field_mask_pb2.FieldMask(paths=paths)


class Fixture:
    """A source of its own with five findings."""

    def __init__(self, client, name):
        self.client = client
        source = client.create_source(
            parent=ORGANIZATION, source=scc.Source(display_name=f"py {name} {next(UNIQUE)}")
        )
        self.source = source.name
        self.parent = f"{source.name}/locations/global"
        for n in range(5):
            client.create_finding(
                parent=self.parent,
                finding_id=f"f{n}",
                finding=Finding(
                    category="Reverse Shell",
                    resource_name="//example.com/app",
                    state=Finding.State.ACTIVE,
                    severity=Finding.Severity.HIGH if n % 2 == 0 else Finding.Severity.LOW,
                    event_time={"seconds": 1_700_000_000 + n},
                    source_properties={"number": float(n), "Deep": {"list": [1.0, "two"]}},
                ),
            )

    def name(self, n):
        return f"{self.parent}/findings/f{n}"


def creates(client):
    at = Fixture(client, "create")
    finding = next(iter(client.list_findings(request={"parent": at.parent, "filter": f'name="{at.name(3)}"'}))).finding
    assert finding.name == at.name(3) and finding.parent == at.parent, finding
    assert finding.severity == Finding.Severity.LOW and finding.create_time is not None
    assert finding.source_properties["number"] == 3.0, finding.source_properties
    assert list(finding.source_properties["Deep"]["list"]) == [1.0, "two"]


def lists_filters_and_pages(client):
    at = Fixture(client, "list")
    request = {"parent": at.parent, "filter": 'severity="HIGH"', "order_by": "event_time desc", "page_size": 2}
    pager = client.list_findings(request=request)
    assert pager.total_size == 3
    assert [len(page.list_findings_results) for page in pager.pages] == [2, 1]
    names = [result.finding.name for result in client.list_findings(request=request)]
    assert names == [at.name(4), at.name(2), at.name(0)], names
    either = '(severity="LOW" OR category:"nothing") AND NOT name="%s"' % at.name(1)
    names = [result.finding.name for result in client.list_findings(request={"parent": at.parent, "filter": either})]
    assert names == [at.name(3)], names
    everywhere = client.list_findings(request={"parent": f"{ORGANIZATION}/sources/-", "page_size": 1000})
    assert at.name(0) in [result.finding.name for result in everywhere]


def masks_fields(client):
    at = Fixture(client, "mask")
    result = next(iter(client.list_findings(request={"parent": at.parent, "field_mask": mask("name", "severity")})))
    assert result.finding.name and result.finding.severity and not result.finding.category


def groups(client):
    at = Fixture(client, "group")
    found = {
        group.properties["severity"]: group.count
        for group in client.group_findings(request={"parent": at.parent, "group_by": "severity"})
    }
    assert found == {"HIGH": 3, "LOW": 2}, found


def updates(client):
    at = Fixture(client, "update")
    updated = client.update_finding(
        finding=Finding(
            name=at.name(0),
            severity=Finding.Severity.CRITICAL,
            description="not in the mask",
            source_properties={"number": 9.0, "Other": "x"},
        ),
        update_mask=mask("severity", "source_properties.number"),
    )
    assert updated.severity == Finding.Severity.CRITICAL and not updated.description, updated
    assert updated.source_properties["number"] == 9.0 and "Other" not in updated.source_properties
    assert "Deep" in updated.source_properties


def creates_by_updating(client):
    at = Fixture(client, "upsert")
    created = client.update_finding(
        finding=Finding(
            name=f"{at.parent}/findings/new",
            category="Mine",
            resource_name="//example.com/app",
            processes=[{"name": "sh", "pid": 2**40, "binary": {"path": "/bin/sh", "size": 2**41}}],
            vulnerability={"cve": {"id": "CVE-2024-1"}},
        )
    )
    assert created.category == "Mine" and created.processes[0].pid == 2**40
    assert created.processes[0].binary.size == 2**41 and created.vulnerability.cve.id == "CVE-2024-1"


def sets_state_and_mute(client):
    at = Fixture(client, "state")
    assert client.set_finding_state(name=at.name(0), state=Finding.State.INACTIVE).state == Finding.State.INACTIVE
    muted = client.set_mute(name=at.name(0), mute=Finding.Mute.MUTED)
    assert muted.mute == Finding.Mute.MUTED and muted.mute_info.static_mute.state == Finding.Mute.MUTED
    found = client.list_findings(request={"parent": at.parent, "filter": 'mute="MUTED" AND state="INACTIVE"'})
    assert [result.finding.name for result in found] == [at.name(0)]
    assert client.set_mute(name=at.name(0), mute=Finding.Mute.UNDEFINED).mute == Finding.Mute.UNDEFINED


def marks(client):
    at = Fixture(client, "marks")
    name = f"{at.name(1)}/securityMarks"
    marked = client.update_security_marks(security_marks=scc.SecurityMarks(name=name, marks={"team": "red", "x": "1"}))
    assert dict(marked.marks) == {"team": "red", "x": "1"}, marked
    marked = client.update_security_marks(
        request={"security_marks": {"name": name, "marks": {"team": "blue"}}, "update_mask": mask("marks.team", "marks.x")}
    )
    assert dict(marked.marks) == {"team": "blue"}, marked
    found = client.list_findings(request={"parent": at.parent, "filter": 'security_marks.marks.team="blue"'})
    assert [result.finding.security_marks.marks["team"] for result in found] == ["blue"]


def links_tickets(client):
    at = Fixture(client, "tickets")
    system = client.update_external_system(
        external_system=scc.ExternalSystem(name=f"{at.name(1)}/externalSystems/jira", external_uid="J-1", status="OPEN"),
        update_mask=mask("external_uid", "status"),
    )
    assert system.external_uid == "J-1" and system.external_system_update_time is not None, system


def keeps_sources(client):
    at = Fixture(client, "source")
    renamed = client.update_source(source=scc.Source(name=at.source, description="d"), update_mask=mask("description"))
    assert renamed.description == "d" and renamed.display_name.startswith("py source")
    assert client.get_source(name=at.source) == renamed
    assert at.source in [source.name for source in client.list_sources(parent=ORGANIZATION)]
    policy = client.get_iam_policy(request={"resource": at.source})
    assert "roles/securitycenter.admin" in [binding.role for binding in policy.bindings], policy
    permissions = ["securitycenter.findings.list"]
    tested = client.test_iam_permissions(request={"resource": at.source, "permissions": permissions + ["nope.nope"]})
    assert list(tested.permissions) == permissions


def configures_mute_rules(client):
    at = Fixture(client, "rules")
    kind = scc.MuteConfig.MuteConfigType
    made = client.create_mute_config(
        parent=GLOBAL,
        mute_config_id=f"py-{os.getpid()}-{type(client.transport).__name__.lower()[14:18]}",
        mute_config=scc.MuteConfig(filter='category="Nothing of this name"', type_=kind.DYNAMIC),
    )
    changed = client.update_mute_config(
        mute_config=scc.MuteConfig(name=made.name, description="d"), update_mask=mask("description")
    )
    assert changed.description == "d" and changed.filter == made.filter and changed.type_ == kind.DYNAMIC
    assert client.get_mute_config(name=made.name) == changed
    assert made.name in [rule.name for rule in client.list_mute_configs(parent=GLOBAL)]
    client.delete_mute_config(name=made.name)
    expect(exceptions.NotFound, lambda: client.get_mute_config(name=made.name))
    del at


def configures_notifications(client):
    made = client.create_notification_config(
        parent=GLOBAL,
        config_id=f"py-{os.getpid()}-{type(client.transport).__name__}",
        notification_config=scc.NotificationConfig(
            pubsub_topic="projects/p/topics/t", streaming_config={"filter": 'state="ACTIVE"'}
        ),
    )
    changed = client.update_notification_config(
        notification_config=scc.NotificationConfig(name=made.name, streaming_config={"filter": 'severity="HIGH"'}),
        update_mask=mask("streaming_config.filter"),
    )
    assert changed.streaming_config.filter == 'severity="HIGH"' and changed.pubsub_topic == made.pubsub_topic
    assert client.get_notification_config(name=made.name) == changed
    assert made.name in [config.name for config in client.list_notification_configs(parent=GLOBAL)]
    client.delete_notification_config(name=made.name)
    expect(exceptions.NotFound, lambda: client.get_notification_config(name=made.name))


def mutes_in_bulk(client):
    at = Fixture(client, "bulk")
    operation = client.bulk_mute_findings(
        request={"parent": ORGANIZATION, "filter": f'parent="{at.parent}" AND severity="LOW"'}
    )
    assert isinstance(operation.result(timeout=60), scc.BulkMuteFindingsResponse)
    found = client.list_findings(request={"parent": at.parent, "filter": 'mute="MUTED"', "order_by": "name"})
    assert [result.finding.name for result in found] == [at.name(1), at.name(3)]


def tells_mistakes_apart(client):
    # Named after HTTP: what the client raises over REST, and the parents of what it raises over gRPC.
    at = Fixture(client, "mistakes")
    wrong = expect(exceptions.BadRequest, lambda: client.list_findings(request={"parent": at.parent, "filter": "severity="}))
    assert "position 9" in str(wrong), wrong
    expect(exceptions.NotFound, lambda: client.set_mute(name=at.name(9), mute=Finding.Mute.MUTED))
    again = {"parent": at.parent, "finding_id": "f0", "finding": {"category": "x"}}
    expect(exceptions.Conflict, lambda: client.create_finding(request=again))
    expect(exceptions.MethodNotImplemented, lambda: list(client.list_big_query_exports(parent=GLOBAL)))


def turns_strangers_away(client):
    make = rest if isinstance(client.transport, SecurityCenterRestTransport) else over_grpc
    # Over REST the client tries to get a better token, and has nothing to get it with.
    refused = (exceptions.Unauthorized, GoogleAuthError)
    expect(refused, lambda: make("nobody").list_sources(parent=ORGANIZATION))
    if make is rest:
        anonymous = scc.SecurityCenterClient(
            transport=SecurityCenterRestTransport(host=ADDRESS, url_scheme="http", credentials=AnonymousCredentials())
        )
        expect(refused, lambda: anonymous.list_sources(parent=ORGANIZATION))


def expect(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind}")


def schema_is_googles(_):
    """Every field of the messages that are served has the client's number and type, and none is missing."""
    compiled = Path(__file__).parents[2] / "src" / "schema.binpb"
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    ours = {}

    def walk(prefix, message):
        name = f"{prefix}.{message.name}"
        ours[name] = {field.name: (field.number, field.type, field.label) for field in message.field}
        for nested in message.nested_type:
            walk(name, nested)

    for file in files.file:
        if file.package.startswith("google.cloud."):
            for message in file.message_type:
                walk(file.package, message)
    pool = Finding.pb().DESCRIPTOR.file.pool
    compared = 0
    for name, fields in ours.items():
        theirs = descriptor_pb2.DescriptorProto()
        pool.FindMessageTypeByName(name).CopyToProto(theirs)
        assert fields == {field.name: (field.number, field.type, field.label) for field in theirs.field}, name
        compared += len(fields)
    assert compared > 400, compared
    assert "severity" in MessageToDict(Finding.pb(Finding(severity=1)))


def readme_works(client):
    """The lines of the README, as they stand but for the server's address, in a Python of their own."""
    at = Fixture(client, "readme")
    client.create_finding(parent=at.parent, finding_id="seen", finding=Finding(category="Seen by the README"))
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1 and len(blocks[0].splitlines()) == 5 and blocks[0].count('"127.0.0.1:7070"') == 1, blocks
    lines = blocks[0].replace("127.0.0.1:7070", ADDRESS)
    environment = {**os.environ, "TOKEN": TOKEN}
    command = [sys.executable, "-W", "ignore::FutureWarning", "-c", lines]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'Seen by the README'" in done.stdout, done.stdout


CHECKS = [
    creates,
    lists_filters_and_pages,
    masks_fields,
    groups,
    updates,
    creates_by_updating,
    sets_state_and_mute,
    marks,
    links_tickets,
    keeps_sources,
    configures_mute_rules,
    configures_notifications,
    mutes_in_bulk,
    tells_mistakes_apart,
    turns_strangers_away,
]


def main():
    passed = failed = 0
    runs = [(f"{kind} {check.__name__}", check, make) for kind, make in (("rest", rest), ("grpc", over_grpc)) for check in CHECKS]
    runs += [(check.__name__, check, rest) for check in (readme_works, schema_is_googles)]
    for name, check, make in runs:
        name = name.replace("_", " ")
        try:
            check(make(TOKEN))
            passed += 1
            print(f"ok    python {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  python {name}", flush=True)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
