"""What a sink is sent, held against the schemas of those who read it.

HULLWATCH_EXAMPLES is the directory of the built examples. Messages are made from the recordings of every detector and from
the findings of the review page's example, hostile text among them.

- OCSF: the exported schema of the version that each message names, as the package `ocsf-json-schema` carries it: JSON Schema
  of class and profiles, in which an attribute that the class does not have is an error. Beside that what JSON Schema cannot
  say: captions beside their enums, type ids, nothing deprecated.
- SCC: Google's `NotificationMessage`, read as its documentation tells receivers to. A field or enum value that it does not
  have is an error; and written again it must be the same JSON.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

from google.cloud import securitycenter_v2 as scc
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

TESTDATA = Path(__file__).parents[3] / "detect" / "testdata"
RECORDINGS = sorted(TESTDATA.glob("*/fires_*.jsonl"))


def messages(form):
    program = Path(os.environ["HULLWATCH_EXAMPLES"]) / "notifications"
    done = subprocess.run([program, form, *RECORDINGS], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def every_detector(detectors):
    """Fails unless the messages come from all detectors that have recordings."""
    expected = {recording.parent.name for recording in RECORDINGS}
    assert len(expected) > 10, expected
    assert expected <= set(detectors), expected - set(detectors)


class Ocsf:
    """The schema of one version."""

    def __init__(self, version):
        self.schema = get_ocsf_schema(version=version)
        self.generator = OcsfJsonSchemaEmbedded(self.schema)
        self.validators = {}

    def faults(self, event):
        name = self.generator.lookup_class_name_from_uid(event["class_uid"])
        profiles = event["metadata"].get("profiles", [])
        of_class = self.schema["classes"][name]
        faults = [f"the class has no profile {profile}" for profile in profiles if profile not in of_class["profiles"]]
        key = (name, *profiles)
        if key not in self.validators:
            schema = self.generator.get_class_schema(name, profiles)
            Draft202012Validator.check_schema(schema)
            self.validators[key] = Draft202012Validator(schema)
        faults += [f"{error.json_path}: {error.message}" for error in self.validators[key].iter_errors(event)]
        if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
            faults.append(f"type_uid {event['type_uid']}")
        return faults or list(self.beyond("$", event, of_class["attributes"]))

    def beyond(self, path, value, attributes):
        """What the generated JSON Schema does not say."""
        for name, item in value.items():
            attribute = attributes.get(name)
            if attribute is None:
                continue  # Told by the JSON Schema.
            if "@deprecated" in attribute:
                yield f"{path}.{name} is deprecated"
            caption = attribute.get("enum", {}).get(str(item), {}).get("caption")
            sibling = attribute.get("sibling")
            # 99 stands for what the producer calls it.
            if caption and sibling and item != 99 and value.get(sibling, caption) != caption:
                yield f"{path}.{sibling} is {value[sibling]!r} beside {name} {item}, which is {caption!r}"
            if attribute["type"] == "object_t":
                inner = self.schema["objects"][attribute["object_type"]]["attributes"]
                for one in item if attribute.get("is_array") else [item]:
                    yield from self.beyond(f"{path}.{name}", one, inner)


def ocsf_says_what_the_schema_says():
    schemas = {}
    events = messages("ocsf")
    every_detector(event["finding_info"]["analytic"]["name"] for event in events)
    for event in events:
        version = event["metadata"]["version"]
        schema = schemas.setdefault(version, Ocsf(version))
        faults = schema.faults(event)
        assert event["class_uid"] == 2004 and not faults, (faults, event)
    print(f"      {len(events)} messages, OCSF {', '.join(schemas)}")
    return schemas, events


def ocsf_faults_are_seen():
    """The check itself: each of these breaks one rule, and is told."""
    schemas, events = ocsf_says_what_the_schema_says()
    good = next(event for event in events if "device" in event and "evidences" in event)
    schema = schemas[good["metadata"]["version"]]
    breakages = [
        lambda event: event.update(unheard_of=1),
        lambda event: event.update(severity_id=7),
        lambda event: event.update(severity="Terrible"),
        lambda event: event.update(type_uid=200400),
        lambda event: event.update(time="now"),
        lambda event: event.pop("finding_info"),
        lambda event: event["finding_info"].pop("uid"),
        lambda event: event["metadata"].update(profiles=["host", "nonsense"]),
        lambda event: event.update(cloud={"provider": "of a profile that the message does not name"}),
        lambda event: event["evidences"][0].update(container=[]),
        lambda event: event["evidences"][0].update(files={}),
    ]
    for number, breakage in enumerate(breakages):
        broken = json.loads(json.dumps(good))
        breakage(broken)
        assert schema.faults(broken), f"breakage {number} was not seen"


def scc_is_read_and_written_alike():
    found = messages("scc")
    every_detector(message["finding"]["sourceProperties"]["Detector"] for message in found)
    for ours in found:
        read = scc.NotificationMessage.from_json(json.dumps(ours))
        theirs = json_format.MessageToDict(scc.NotificationMessage.pb(read))
        assert theirs == ours, differences("", theirs, ours)
    print(f"      {len(found)} messages")


def differences(path, theirs, ours):
    """The paths at which two JSON values differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(theirs.keys() | ours.keys())
        return [fault for key in keys for fault in differences(f"{path}.{key}", theirs.get(key), ours.get(key))]
    return [] if theirs == ours else [f"{path}: {theirs!r}, not {ours!r}"]


def main():
    passed = failed = 0
    for check in (ocsf_says_what_the_schema_says, ocsf_faults_are_seen, scc_is_read_and_written_alike):
        name = check.__name__.replace("_", " ")
        try:
            check()
            passed += 1
            print(f"ok    {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {name}", flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
