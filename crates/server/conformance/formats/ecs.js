// What a sink of the format `ecs` is sent, held against the Elastic Common Schema as Elastic's own package has it.
//
// HULLWATCH_EXAMPLES is the directory of the built examples. Messages are made as in suite.py. Each field must be one of the
// schema's, or ours (`hullwatch.*`); of its type; a list where the schema wants one; and of the values that it allows.

'use strict';

const assert = require('node:assert');
const {execFileSync} = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const {EcsFlat, EcsVersion} = require('@elastic/ecs');

const TESTDATA = path.join(__dirname, '../../../detect/testdata');
const RECORDINGS = fs
  .readdirSync(TESTDATA, {recursive: true})
  .filter(name => /^[^/]+\/fires_[^/]*\.jsonl$/.test(name))
  .map(name => path.join(TESTDATA, name));

const isText = value => typeof value === 'string';
const TYPES = {
  boolean: value => typeof value === 'boolean',
  constant_keyword: isText,
  date: value => isText(value) && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value),
  float: Number.isFinite,
  ip: isText,
  keyword: isText,
  long: Number.isSafeInteger,
  match_only_text: isText,
  wildcard: isText,
  // Such as labels: names of ours, and values that are not objects themselves.
  object: value => value.constructor === Object && Object.values(value).every(isText),
};

function* faults(message) {
  if (message.ecs?.version !== '8.11.0' || !EcsVersion.startsWith('8.11')) yield 'ecs.version';
  for (const name of ['@timestamp', 'event']) if (!(name in message)) yield `no ${name}`;
  yield* within('', message);
  for (const category of message.event?.category ?? []) {
    const allowed = EcsFlat['event.category'].allowed_values.find(value => value.name === category);
    for (const type of message.event.type ?? []) {
      if (!allowed?.expected_event_types?.includes(type)) yield `event.type ${type} of ${category}`;
    }
  }
}

function* within(prefix, object) {
  for (const [name, value] of Object.entries(object)) {
    const full = prefix + name;
    const field = EcsFlat[full];
    if (field) {
      const isList = (field.normalize ?? []).includes('array');
      if (isList !== Array.isArray(value)) yield `${full} is ${isList ? 'not ' : ''}a list`;
      for (const one of [value].flat()) {
        if (!TYPES[field.type](one)) yield `${full}: ${JSON.stringify(one)} is not a ${field.type}`;
        const allowed = field.allowed_values?.map(value => value.name);
        if (allowed && !allowed.includes(one)) yield `${full}: ${one} is not allowed`;
      }
    } else if (full === 'hullwatch') {
      if (!TYPES.object(value)) yield full;
    } else if (value?.constructor === Object && Object.keys(EcsFlat).some(known => known.startsWith(`${full}.`))) {
      yield* within(`${full}.`, value);
    } else {
      yield `there is no ${full}`;
    }
  }
}

const program = path.join(process.env.HULLWATCH_EXAMPLES, 'notifications');
const messages = execFileSync(program, ['ecs', ...RECORDINGS], {encoding: 'utf8', maxBuffer: 1 << 28})
  .trim()
  .split('\n')
  .map(line => JSON.parse(line));

const CHECKS = {
  'every message says what the schema says'() {
    const expected = new Set(RECORDINGS.map(recording => path.basename(path.dirname(recording))));
    const detectors = new Set(messages.map(message => message.rule?.id));
    assert(expected.size > 10 && [...expected].every(name => detectors.has(name)), [...expected].join());
    for (const message of messages) {
      assert.deepStrictEqual([...faults(message)], [], JSON.stringify(message));
    }
    console.log(`      ${messages.length} messages, ECS ${EcsVersion}`);
  },
  // The check itself: each of these breaks one rule, and is told.
  'faults are seen'() {
    const good = messages.find(message => message.threat && message.file && message.process?.parent);
    const breakages = [
      message => delete message['@timestamp'],
      message => (message.unheard_of = 1),
      message => (message.process.unheard_of = 'x'),
      message => (message.process.pid = '1'),
      message => (message.process.args = 'x'),
      message => (message.process.name = ['x']),
      message => (message.event.kind = 'nonsense'),
      message => (message.event.type = ['indicator']),
      message => (message.event.created = 'now'),
      message => (message.container.labels = {a: {b: 'c'}}),
      message => (message.hullwatch.finding = {}),
      message => (message.file = 'x'),
    ];
    for (const [number, breakage] of breakages.entries()) {
      const broken = structuredClone(good);
      breakage(broken);
      assert.notStrictEqual([...faults(broken)].length, 0, `breakage ${number} was not seen`);
    }
  },
};

let passed = 0;
let failed = 0;
for (const [name, check] of Object.entries(CHECKS)) {
  try {
    check();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
