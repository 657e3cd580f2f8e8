// Google's Node client, over plain REST and over gRPC with TLS, against a running server.
//
// HULLWATCH_ADDRESS and HULLWATCH_TLS_ADDRESS are host and port, HULLWATCH_CA is the certificate, HULLWATCH_TOKEN an admin's
// token.

'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const {v2} = require('@google-cloud/security-center');
const {GoogleAuth, OAuth2Client, PassThroughClient} = require('google-auth-library');
const grpc = require('@grpc/grpc-js');

const [host, port] = process.env.HULLWATCH_ADDRESS.split(':');
const TOKEN = process.env.HULLWATCH_TOKEN;
const ORGANIZATION = 'organizations/1';
const GLOBAL = `${ORGANIZATION}/locations/global`;
let unique = process.pid * 1000;

function rest(token) {
  const authClient = new OAuth2Client();
  authClient.setCredentials({access_token: token, expiry_date: Date.now() + 3600_000});
  return new v2.SecurityCenterClient({
    fallback: true,
    protocol: 'http',
    apiEndpoint: host,
    port: Number(port),
    auth: new GoogleAuth({authClient}),
  });
}

function overGrpc(token) {
  const bearer = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    done(null, metadata);
  });
  const tls = grpc.credentials.createSsl(fs.readFileSync(process.env.HULLWATCH_CA));
  const [host, port] = process.env.HULLWATCH_TLS_ADDRESS.split(':');
  return new v2.SecurityCenterClient({
    apiEndpoint: host,
    port: Number(port),
    sslCreds: grpc.credentials.combineChannelCredentials(tls, bearer),
    auth: new GoogleAuth({authClient: new PassThroughClient()}),
  });
}

/** A source of its own with five findings. */
async function fixture(client, name) {
  const [source] = await client.createSource({parent: ORGANIZATION, source: {displayName: `node ${name} ${unique++}`}});
  const parent = `${source.name}/locations/global`;
  for (let n = 0; n < 5; n++) {
    await client.createFinding({
      parent,
      findingId: `f${n}`,
      finding: {
        category: 'Reverse Shell',
        resourceName: '//example.com/app',
        state: 'ACTIVE',
        severity: n % 2 === 0 ? 'HIGH' : 'LOW',
        eventTime: {seconds: 1_700_000_000 + n},
        sourceProperties: {Number: {numberValue: n}},
      },
    });
  }
  return {source: source.name, parent, name: n => `${parent}/findings/f${n}`};
}

const names = results => results.map(result => result.finding.name);

// What the client reports: gRPC's code, and over REST the HTTP status.
const INVALID_ARGUMENT = [3, 400];
const NOT_FOUND = [5, 404];
const ALREADY_EXISTS = [6, 409];
const UNAUTHENTICATED = [16, 401];

async function refuses(call, codes) {
  await assert.rejects(call, error => codes.includes(Number(error.code)) || assert.fail(`code ${error.code}: ${error}`));
}

const CHECKS = {
  async 'lists, filters and pages'(client) {
    const at = await fixture(client, 'list');
    const request = {parent: at.parent, filter: 'severity="HIGH"', orderBy: 'event_time desc', pageSize: 2};
    const [all] = await client.listFindings(request);
    assert.deepEqual(names(all), [at.name(4), at.name(2), at.name(0)]);
    const [page, next, response] = await client.listFindings(request, {autoPaginate: false});
    assert.equal(page.length, 2);
    assert.equal(response.totalSize, 3);
    const [rest] = await client.listFindings(next, {autoPaginate: false});
    assert.deepEqual(names(rest), [at.name(0)]);
    assert.equal(all[0].finding.sourceProperties.Number.numberValue, 4);
  },

  async groups(client) {
    const at = await fixture(client, 'group');
    const [groups] = await client.groupFindings({parent: at.parent, groupBy: 'severity'});
    assert.deepEqual(groups.map(group => Number(group.count)), [3, 2]);
    assert.equal(groups[0].properties.severity.stringValue, 'HIGH');
  },

  async 'updates with and without a mask'(client) {
    const at = await fixture(client, 'update');
    const [updated] = await client.updateFinding({
      finding: {name: at.name(0), severity: 'CRITICAL', description: 'not in the mask'},
      updateMask: {paths: ['severity']},
    });
    assert.equal(updated.severity, 'CRITICAL');
    assert.equal(updated.description, '');
    const [created] = await client.updateFinding({
      finding: {name: `${at.parent}/findings/new`, category: 'Mine', processes: [{name: 'sh', pid: '1099511627776'}]},
    });
    assert.equal(created.category, 'Mine');
    assert.equal(String(created.processes[0].pid), '1099511627776');
  },

  async 'sets state and mute'(client) {
    const at = await fixture(client, 'state');
    const [inactive] = await client.setFindingState({name: at.name(1), state: 'INACTIVE'});
    assert.equal(inactive.state, 'INACTIVE');
    const [muted] = await client.setMute({name: at.name(1), mute: 'MUTED'});
    assert.equal(muted.mute, 'MUTED');
    const [found] = await client.listFindings({parent: at.parent, filter: 'mute="MUTED" AND state="INACTIVE"'});
    assert.deepEqual(names(found), [at.name(1)]);
  },

  async 'marks and links tickets'(client) {
    const at = await fixture(client, 'marks');
    const [marks] = await client.updateSecurityMarks({
      securityMarks: {name: `${at.name(2)}/securityMarks`, marks: {team: 'red'}},
      updateMask: {paths: ['marks.team']},
    });
    assert.deepEqual(marks.marks, {team: 'red'});
    const [ticket] = await client.updateExternalSystem({
      externalSystem: {name: `${at.name(2)}/externalSystems/jira`, externalUid: 'J-1'},
    });
    assert.equal(ticket.externalUid, 'J-1');
  },

  async 'keeps sources'(client) {
    const at = await fixture(client, 'sources');
    const [renamed] = await client.updateSource({
      source: {name: at.source, description: 'd'},
      updateMask: {paths: ['description']},
    });
    assert.equal(renamed.description, 'd');
    const [sources] = await client.listSources({parent: ORGANIZATION});
    assert.ok(sources.some(source => source.name === at.source));
    const [tested] = await client.testIamPermissions({resource: at.source, permissions: ['securitycenter.findings.list']});
    assert.deepEqual(tested.permissions, ['securitycenter.findings.list']);
  },

  async 'configures mute rules'(client) {
    const [made] = await client.createMuteConfig({
      parent: GLOBAL,
      muteConfigId: `node-${unique++}`,
      muteConfig: {filter: 'category="Nothing of this name"', type: 'DYNAMIC'},
    });
    const [changed] = await client.updateMuteConfig({
      muteConfig: {name: made.name, description: 'd'},
      updateMask: {paths: ['description']},
    });
    assert.equal(changed.description, 'd');
    assert.equal(changed.filter, made.filter);
    const [rules] = await client.listMuteConfigs({parent: GLOBAL});
    assert.ok(rules.some(rule => rule.name === made.name));
    await client.deleteMuteConfig({name: made.name});
    await refuses(client.getMuteConfig({name: made.name}), NOT_FOUND);
  },

  async 'configures notifications'(client) {
    const [made] = await client.createNotificationConfig({
      parent: GLOBAL,
      configId: `node-${unique++}`,
      notificationConfig: {pubsubTopic: 'projects/p/topics/t', streamingConfig: {filter: 'state="ACTIVE"'}},
    });
    const [read] = await client.getNotificationConfig({name: made.name});
    assert.equal(read.streamingConfig.filter, 'state="ACTIVE"');
    await client.deleteNotificationConfig({name: made.name});
  },

  async 'mutes in bulk'(client) {
    const at = await fixture(client, 'bulk');
    const [operation] = await client.bulkMuteFindings({
      parent: ORGANIZATION,
      filter: `parent="${at.parent}" AND severity="LOW"`,
    });
    await operation.promise();
    const [muted] = await client.listFindings({parent: at.parent, filter: 'mute="MUTED"', orderBy: 'name'});
    assert.deepEqual(names(muted), [at.name(1), at.name(3)]);
  },

  async 'tells mistakes apart'(client, make) {
    const at = await fixture(client, 'mistakes');
    await refuses(client.listFindings({parent: at.parent, filter: 'severity='}), INVALID_ARGUMENT);
    await refuses(client.setMute({name: at.name(9), mute: 'MUTED'}), NOT_FOUND);
    const again = {parent: at.parent, findingId: 'f0', finding: {category: 'x'}};
    await refuses(client.createFinding(again), ALREADY_EXISTS);
    await refuses(make('nobody').listSources({parent: ORGANIZATION}), UNAUTHENTICATED);
  },
};

async function main() {
  let passed = 0;
  let failed = 0;
  for (const [kind, make] of [['rest', rest], ['grpc', overGrpc]]) {
    for (const [name, check] of Object.entries(CHECKS)) {
      try {
        await check(make(TOKEN), make);
        passed++;
        console.log(`ok    node ${kind} ${name}`);
      } catch (error) {
        failed++;
        console.log(`FAIL  node ${kind} ${name}`, error);
      }
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main();
