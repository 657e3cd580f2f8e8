// Drives the review page in a real Chromium: every page, the keyboard, live findings, accessibility, hostile text.
//
//   npm ci && node run.mjs PATH_TO_EXAMPLE_review_page
import assert from "node:assert/strict";
import { Runner, accessibilityFaults, openTab, shot, startBrowser, startServer } from "./harness.mjs";

const program = process.argv[2];
if (!program) {
  console.error("usage: node run.mjs PROGRAM   (cargo build -p server --example review_page)");
  process.exit(2);
}
const server = await startServer(program);
const browser = await startBrowser();
const runner = new Runner();

/** Runs `body` in a fresh tab and fails on anything the browser complained of. */
const withTab = (options, body) => async () => {
  const tab = await openTab(browser, server, options);
  try {
    await body(tab);
    assert.deepEqual(tab.faults, []);
  } finally {
    await tab.close();
  }
};
const admin = { token: server.tokens.admin };
const rows = (page) => page.locator("#results tbody tr[data-name]");
const openFinding = async (page, category) => {
  await page.goto(`${server.address}/findings?q=`);
  await page.goto(server.address + (await page.locator("td.category a", { hasText: category }).first().getAttribute("href")));
};

// ---- each page, light and dark -----------------------------------------------------------------------------------

const pages = [
  ["findings", "/findings", "h1:text('Findings')"],
  ["index", "/index", "h1:text('Threat findings index')"],
  ["matrix", "/index?view=matrix", ".technique.covered"],
  ["detector", "/index/modified_malicious_binary_executed", "h2:text('Why it matters')"],
  ["coverage", "/coverage", "h2:text('Not seen')"],
  ["audit", "/audit", "td:text('log in')"],
];
for (const scheme of ["light", "dark"]) {
  for (const [name, path, mark] of pages) {
    runner.test(
      `${name} loads without a fault, ${scheme}`,
      withTab({ ...admin, colorScheme: scheme }, async ({ page, goto }) => {
        const response = await goto(path);
        assert.equal(response.status(), 200);
        await page.waitForSelector(mark, { state: "attached" });
        await shot(page, `${name}-${scheme}`);
        assert.deepEqual(await accessibilityFaults(page), []);
      }),
    );
  }
  runner.test(
    `one finding loads without a fault, ${scheme}`,
    withTab({ ...admin, colorScheme: scheme }, async ({ page }) => {
      await openFinding(page, "Modified Malicious Binary");
      for (const heading of ["What was detected", "Next steps", "Provenance", "Process tree", "Container settings", "Security marks"]) {
        await page.waitForSelector(`h2:text-is("${heading}")`);
      }
      assert.match(await page.locator(".tree svg").textContent(), /Execution: Modified Malicious Binary Executed/);
      assert.match(await page.locator(".evidence .differs").textContent(), /[0-9a-f]{64}/);
      assert.match(await page.locator(".timeline").textContent(), /Added Malicious Library Loaded/);
      assert.match(await page.locator("#command-1").textContent(), /^podman pause /);
      await shot(page, `finding-${scheme}`, { fullPage: true });
      assert.deepEqual(await accessibilityFaults(page), []);
      await page.click(".tabs a:text('JSON')");
      await page.waitForSelector("#json details");
      const object = JSON.parse(await page.locator("#json-text").textContent());
      assert.equal(object.finding.category, "Execution: Modified Malicious Binary Executed");
      await shot(page, `finding-json-${scheme}`);
      assert.deepEqual(await accessibilityFaults(page), []);
    }),
  );
}
runner.test(
  "a narrow screen has no sideways scroll",
  withTab({ ...admin, viewport: { width: 390, height: 844 } }, async ({ page, goto }) => {
    for (const path of ["/findings", "/coverage", "/index", "/audit"]) {
      await goto(path);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${path} is ${wide} pixels too wide`);
    }
    await openFinding(page, "Modified Malicious Binary");
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `a finding is ${wide} pixels too wide`);
    await shot(page, "finding-narrow");
  }),
);

// ---- signing in --------------------------------------------------------------------------------------------------

runner.test("nothing is shown without signing in", async () => {
  const tab = await openTab(browser, server);
  for (const path of ["/findings", "/coverage", "/index", "/audit", "/finding/organizations/1/sources/1/locations/global/findings/0"]) {
    await tab.goto(path);
    assert.match(tab.page.url(), /\/login\?next=/);
  }
  for (const path of ["/findings/live", "/findings/complete?q=", "/findings/export.csv"]) {
    const response = await tab.context.request.get(server.address + path, { maxRedirects: 0 });
    assert.equal(response.status(), 303);
  }
  await shot(tab.page, "login");
  assert.deepEqual(await accessibilityFaults(tab.page), []);
  assert.deepEqual(tab.faults, []);
  await tab.close();
});
runner.test("the one-time link signs in once", async () => {
  const tab = await openTab(browser, server);
  await tab.page.goto(server.link);
  await tab.page.click("button:text('Sign in')");
  await tab.page.waitForURL(/\/findings/);
  const cookie = (await tab.context.cookies())[0];
  assert.ok(cookie.httpOnly);
  assert.equal(cookie.sameSite, "Strict");
  await tab.page.click("button:text('Sign out')");
  await tab.page.waitForURL(/\/login/);
  await tab.goto("/findings");
  assert.match(tab.page.url(), /\/login/);
  await tab.page.goto(server.link);
  await tab.page.click("button:text('Sign in')");
  await tab.page.waitForSelector("[role=alert]");
  await tab.close();
});
runner.test("a form without its token, or from elsewhere, changes nothing", async () => {
  const tab = await openTab(browser, server, admin);
  const name = await rows(tab.page).first().getAttribute("data-name");
  const post = (form, headers = {}) => tab.context.request.post(`${server.address}/findings/actions`, { form, headers, maxRedirects: 0 });
  assert.equal((await post({ name, action: "mute" })).status(), 403);
  const csrf = await tab.page.locator("#bulk input[name=csrf]").getAttribute("value");
  assert.equal((await post({ name, action: "mute", csrf }, { "sec-fetch-site": "cross-site" })).status(), 403);
  assert.equal((await post({ name, action: "nonsense", csrf })).status(), 400);
  await tab.goto(`/findings?q=${encodeURIComponent('mute="MUTED"')}`);
  assert.equal(await rows(tab.page).count(), 0);
  await tab.close();
});
runner.test(
  "a viewer is offered no change, and may make none",
  withTab({ token: server.tokens.viewer }, async ({ page, context }) => {
    assert.equal(await page.locator("button[name=action]").count(), 0);
    const csrf = await page.locator(".top input[name=csrf]").getAttribute("value");
    const name = await rows(page).first().getAttribute("data-name");
    const answer = await context.request.post(`${server.address}/findings/actions`, { form: { name, action: "mute", csrf }, maxRedirects: 0 });
    assert.equal(answer.status(), 403);
    await openFinding(page, "Modified Malicious Binary");
    assert.equal(await page.locator("button[name=action], .marks input").count(), 0);
  }),
);

// ---- the findings page -------------------------------------------------------------------------------------------

runner.test(
  "quick filters, query and bars narrow the same address",
  withTab(admin, async ({ page }) => {
    const total = async () => Number((await page.locator("#total").textContent()).replace(/\D/g, ""));
    const everything = await total();
    const critical = page.locator('[data-facet="severity"] a', { hasText: "Critical" });
    const count = Number(await critical.locator(".n").textContent());
    assert.ok(count > 0 && count < everything);
    await critical.click();
    await page.waitForURL(/severity/);
    assert.equal(await total(), count);
    assert.match(await page.inputValue("#q"), /severity="CRITICAL"/);
    const bar = page.locator("#histogram svg a", { has: page.locator("rect.bar-critical") }).last();
    await page.goto(server.address + (await bar.getAttribute("href")));
    assert.match(await page.inputValue("#q"), /event_time>="/);
    assert.ok((await total()) >= 1);
    await page.click("text=All times");
    assert.equal(await total(), count);
    await page.goto(page.url());
    assert.equal(await total(), count);
  }),
);
runner.test(
  "dragging over bars sets the range",
  withTab(admin, async ({ page }) => {
    const box = await page.locator("#histogram svg").boundingBox();
    await page.mouse.move(box.x + box.width * 0.5, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 30, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL(/event_time/);
    const q = await page.inputValue("#q");
    assert.match(q, /event_time>="[^"]+" AND event_time<"/);
  }),
);
runner.test(
  "a range of bars is chosen with keys alone",
  withTab(admin, async ({ page }) => {
    const bars = page.locator("#histogram svg a");
    await bars.nth(20).focus();
    await page.keyboard.press("ArrowLeft");
    for (let step = 0; step < 3; step++) await page.keyboard.press("Shift+ArrowRight");
    assert.equal(await page.locator("#histogram .brush").getAttribute("width"), "40");
    const edge = (bar, name) => page.locator("#histogram .hit").nth(bar).getAttribute(`data-${name}`);
    const [from, to] = [await edge(19, "from"), await edge(22, "to")];
    await page.keyboard.press("Enter");
    await page.waitForURL(/event_time/);
    const q = await page.inputValue("#q");
    assert.ok(q.includes(`event_time>="${from}`) && q.includes(`event_time<"${to}`), `${q}: ${from} to ${to}`);
  }),
);
runner.test(
  "a press that ends outside the bars brushes nothing",
  withTab(admin, async ({ page }) => {
    const box = await page.locator("#histogram svg").boundingBox();
    await page.mouse.move(box.x + box.width * 0.5, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.5, box.y - 60, { steps: 5 });
    await page.mouse.up();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 20, { steps: 5 });
    assert.equal(await page.locator("#histogram .brush").count(), 0);
  }),
);
runner.test(
  "a wrong query is marked while typing, and said by the server",
  withTab(admin, async ({ page }) => {
    await page.fill("#q", 'sevrity="HIGH"');
    await page.waitForSelector('.editor[data-state="error"] .behind mark');
    assert.equal(await page.locator(".behind mark").textContent(), "sevrity");
    assert.match(await page.locator("#q-status").textContent(), /At character 1: .*no field/);
    await page.keyboard.press("Escape");
    await page.click("button:text('Run')");
    await page.waitForSelector(".query-error mark");
    assert.equal(await page.locator(".query-error mark").textContent(), "sevrity");
    assert.deepEqual(await accessibilityFaults(page), []);
    await shot(page, "query-error");
  }),
);
runner.test(
  "fields and values are completed with keys alone",
  withTab(admin, async ({ page }) => {
    await page.keyboard.press("/");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("sev");
    await page.waitForSelector("#q-complete:not([hidden]) li[aria-selected=true]");
    await page.keyboard.press("Tab");
    assert.equal(await page.inputValue("#q"), "severity");
    await page.keyboard.type('="CR');
    await page.waitForSelector("#q-complete:not([hidden]) li:has-text('CRITICAL')");
    await shot(page, "completion");
    await page.keyboard.press("Tab");
    assert.equal(await page.inputValue("#q"), 'severity="CRITICAL"');
    await page.keyboard.press("Enter");
    await page.waitForURL(/severity/);
    assert.ok((await page.locator(".chip.critical").count()) > 0);
  }),
);
runner.test(
  "a finding is chosen, opened and left without a pointer",
  withTab(admin, async ({ page }) => {
    await page.locator("h1").first().waitFor({ state: "attached" });
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("k");
    await page.keyboard.press("x");
    assert.match(await page.locator("#selected").textContent(), /1 selected/);
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/finding\//);
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.waitForURL(/\/coverage/);
    await page.keyboard.press("?");
    assert.ok(await page.locator("dialog#keys").evaluate((dialog) => dialog.open));
  }),
);
runner.test(
  "selected findings are muted, found again and unmuted",
  withTab(admin, async ({ page, goto }) => {
    const name = await rows(page).first().getAttribute("data-name");
    await page.locator('#results input[name="name"]').first().check();
    await page.click("button:text-is('Mute')");
    await page.waitForSelector(".notice:has-text('1 finding muted')");
    assert.equal(await page.locator(`tr[data-name="${name}"]`).count(), 0);
    await goto(`/findings?q=${encodeURIComponent('mute="MUTED"')}`);
    assert.equal(await page.locator(`tr[data-name="${name}"]`).count(), 1);
    await page.locator('#results input[name="name"]').first().check();
    await page.click("button:text-is('Unmute')");
    await page.waitForSelector(".notice:has-text('unmuted')");
  }),
);
/** Goes with Tab, or back with Shift+Tab, to what fits the selector. */
const tabTo = async (page, selector, key) => {
  for (let step = 0; step < 200; step++) {
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
    await page.keyboard.press(key);
  }
  assert.fail(`${selector} is not reached by ${key}`);
};
runner.test(
  "several findings are changed with keys alone",
  withTab({ token: server.tokens.editor }, async ({ page, goto }) => {
    const names = [];
    for (let row = 0; row < 2; row++) {
      await page.keyboard.press("j");
      await page.keyboard.press("x");
      names.push(await page.locator("#results tr.current").getAttribute("data-name"));
    }
    assert.match(await page.locator("#selected").textContent(), /2 selected/);
    await tabTo(page, "button[value=mute]", "Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".notice:has-text('2 findings muted')");
    await goto(`/findings?q=${encodeURIComponent('mute="MUTED"')}`);
    const muted = await rows(page).evaluateAll((list) => list.map((row) => row.dataset.name));
    assert.deepEqual(muted.sort(), names.sort());
    await tabTo(page, "#all", "Tab");
    await page.keyboard.press("Space");
    await tabTo(page, "button[value=unmute]", "Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".notice:has-text('2 findings unmuted')");
  }),
);
runner.test(
  "all that match are changed, not those alone that are shown",
  withTab({ token: server.tokens.editor }, async ({ page, goto }) => {
    const query = (state) => `/findings?q=${encodeURIComponent(`state="${state}"`)}`;
    await goto(query("ACTIVE"));
    const total = await page.locator("#total").textContent();
    const label = page.locator("#matching label");
    assert.match(await label.textContent(), new RegExp(`or all ${parseInt(total)} that match`));
    await tabTo(page, "input[name=matching]", "Tab");
    await page.keyboard.press("Space");
    // What comes now is not what was chosen.
    const { names } = await server.tell("live");
    await page.waitForSelector(`tr.fresh[data-name="${names[0]}"]`, { timeout: 15000 });
    assert.match(await label.textContent(), new RegExp(`or all ${parseInt(total)} that match`));
    await tabTo(page, "button[value=inactive]", "Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`.notice:has-text('${parseInt(total)} findings set inactive')`);
    assert.deepEqual(await rows(page).evaluateAll((list) => list.map((row) => row.dataset.name)), [names[0]]);
    await goto(query("INACTIVE"));
    await page.check("input[name=matching]");
    await page.click("button[value=active]");
    await page.waitForSelector(".notice:has-text('set active')");
  }),
);
runner.test(
  "neither the header nor quick filters fill a narrow screen",
  withTab({ ...admin, viewport: { width: 390, height: 844 } }, async ({ page }) => {
    const header = await page.locator("header").boundingBox();
    assert.ok(header.height < 90, `the header is ${header.height} pixels high`);
    assert.equal(await page.locator("details[data-facet][open]").count(), 0);
    const results = await page.locator("#results").boundingBox();
    assert.ok(results.y < 1000, `they begin ${results.y} pixels down`);
    await page.click("details[data-facet=severity] summary");
    await shot(page, "findings-narrow");
  }),
);
runner.test(
  "state and marks change on a finding's own page",
  withTab({ token: server.tokens.editor }, async ({ page }) => {
    await openFinding(page, "Suspicious OpenSSL");
    await page.click("button:text('Set inactive')");
    await page.waitForSelector(".chip.ok:has-text('Inactive')");
    await page.click("button:text('Set active')");
    await page.waitForSelector(".chip.risk:has-text('Active')");
    await page.fill("input[name=key]", "team");
    await page.fill("input[name=value]", "payments & <b>more</b>");
    await page.click(".marks button:text-is('Set')");
    await page.waitForSelector(".mark-row:has-text('team=payments & <b>more</b>')");
    await page.click(".mark-row button");
    await page.waitForSelector(".marks:has-text('None.')");
    const changes = await page.locator("section:has(> #changes) li").allTextContents();
    assert.match(changes.join(), /set marks.*set marks.*set state.*set state/s);
  }),
);
runner.test(
  "columns and order are part of the address",
  withTab(admin, async ({ page }) => {
    await page.click("#columns-link");
    await page.check("input[name=col][value=image]");
    await page.click("#columns button:text('Apply')");
    await page.waitForSelector("th:text('Image')");
    await page.click("th a:text('Severity')");
    await page.waitForSelector('th[aria-sort="ascending"]:has-text("Severity")');
    assert.match(page.url(), /image/);
    assert.match(page.url(), /order=severity/);
    assert.equal(await rows(page).first().locator(".chip").first().textContent(), "Critical");
  }),
);
runner.test(
  "exports hold what the query selects",
  withTab(admin, async ({ page, context }) => {
    await page.goto(`${server.address}/findings?q=${encodeURIComponent('severity="CRITICAL"')}`);
    const count = Number((await page.locator("#total").textContent()).replace(/\D/g, ""));
    const read = async (label) => {
      const href = await page.locator("a[download]", { hasText: label }).getAttribute("href");
      return (await context.request.get(server.address + href)).text();
    };
    assert.equal(JSON.parse(await read("JSON")).listFindingsResults.length, count);
    assert.equal((await read("CSV")).trim().split("\r\n").length, count + 1);
  }),
);
runner.test(
  "a new finding appears without reload and is announced",
  withTab(admin, async ({ page }) => {
    await page.locator('#results input[name="name"]').nth(1).check();
    const kept = await page.locator('#results input[name="name"]').nth(1).getAttribute("value");
    await page.evaluate(() => (window.notReloaded = true));
    const { names } = await server.tell("live");
    await page.waitForSelector(`tr.fresh[data-name="${names[0]}"]`, { timeout: 15000 });
    assert.match(await page.locator("#announce").textContent(), /1 new finding/);
    assert.ok(await page.evaluate(() => window.notReloaded));
    assert.ok(await page.locator(`input[value="${kept}"]`).isChecked());
    await shot(page, "live");
    await server.tell("repeat");
    await page.waitForFunction((name) => document.querySelector(`tr[data-name="${name}"] td.number`)?.textContent === "2", names[0], {
      timeout: 15000,
    });
  }),
);
runner.test(
  "every finding is on some page after new ones came",
  withTab(admin, async ({ page }) => {
    const { names } = await server.tell("live");
    await page.waitForSelector(`tr[data-name="${names[0]}"]`, { timeout: 15000 });
    const total = Number((await page.locator("#total").textContent()).replace(/\D/g, ""));
    const seen = new Set();
    for (;;) {
      for (const name of await rows(page).evaluateAll((list) => list.map((row) => row.dataset.name))) seen.add(name);
      const next = page.locator(".pager a[rel=next]");
      if (!(await next.count())) break;
      await page.goto(server.address + (await next.getAttribute("href")));
    }
    assert.equal(seen.size, total);
  }),
);
runner.test(
  "a new finding appears although the server failed once",
  withTab(admin, async ({ page, faults }) => {
    let failed = 0;
    await page.route(
      (url) => url.pathname === "/findings",
      (route) => (failed++ ? route.continue() : route.fulfill({ status: 503, body: "" })),
    );
    const { names } = await server.tell("live");
    await page.waitForSelector(`tr.fresh[data-name="${names[0]}"]`, { timeout: 15000 });
    assert.match(await page.locator("#announce").textContent(), /1 new finding/);
    assert.ok(failed > 1);
    faults.splice(0, faults.length, ...faults.filter((fault) => !/\b503\b/.test(fault)));
  }),
);
runner.test("everything can be read, filtered and changed without script", async () => {
  const tab = await openTab(browser, server, { ...admin, javaScriptEnabled: false });
  const { page } = tab;
  await page.locator('[data-facet="severity"] a', { hasText: "Critical" }).click();
  await page.waitForURL(/severity/);
  await page.locator('#results input[name="name"]').first().check();
  await page.click("button:text-is('Set inactive')");
  await page.waitForSelector(".notice:has-text('set inactive')");
  await page.goto(`${server.address}/findings?q=${encodeURIComponent('state="INACTIVE"')}`);
  const name = await rows(page).first().getAttribute("data-name");
  await page.locator('#results input[name="name"]').first().check();
  await page.click("button:text-is('Set active')");
  await page.waitForSelector(".notice:has-text('set active')");
  assert.equal(await page.locator(`tr[data-name="${name}"]`).count(), 0);
  await tab.goto("/findings?q=");
  await page.locator("td.category a").first().click();
  await page.click(".tabs a:text('JSON')");
  await page.click("summary:text('As text')");
  assert.match(await page.locator("#json-text").textContent(), /"category"/);
  await tab.close();
});

// ---- hostile text ------------------------------------------------------------------------------------------------

const attacks = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(1)>',
  "' autofocus onfocus=alert(1) x='",
  "javascript:alert(1)",
  "</textarea><svg onload=alert(1)>",
  "</title></script><script>alert(1)</script>",
  "{{7*7}}${7*7}<%= 7*7 %>",
  "\u202egnp.exe\u202c\u200b\u0007\u001b[31mred",
  "&lt;script&gt;alert(1)&lt;/script&gt;",
  "x".repeat(5000),
];
for (const [number, text] of attacks.entries()) {
  runner.test(
    `hostile text ${number} is shown and does nothing`,
    withTab(admin, async ({ page, goto }) => {
      const { names } = await server.tell(`hostile ${text}`);
      const path = `/finding/${names[0]}`;
      for (const address of [path, `${path}?tab=json`, `/findings?q=${encodeURIComponent(`name="${names[0]}"`)}&col=category,severity,resource,container,image,marks,detector`, "/findings", "/coverage"]) {
        const response = await goto(address);
        assert.ok(response.status() < 400, `${address}: ${response.status()}`);
        assert.equal(await page.locator("main script, main img, main iframe, main object, main [onerror], main [onload], main [onfocus]").count(), 0);
        const wild = await page.evaluate(() =>
          [...document.querySelectorAll("a[href]")].map((a) => new URL(a.getAttribute("href"), location.href).protocol).filter((p) => !["http:", "https:"].includes(p)),
        );
        assert.deepEqual(wild, []);
        const invisible = await page.evaluate(() => /[\u0000-\u0008\u000e-\u001f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/u.test(document.body.innerText));
        assert.equal(invisible, false, "invisible characters are shown as escapes");
      }
      await goto(path);
      if (number === 0 || number === 7) await shot(page, `hostile-${number}`, { fullPage: true });
      if (text.length < 100) {
        const shown = await page.locator("main").innerText();
        assert.ok(shown.includes(text.slice(0, 4).replace("\u202e", "\\u{202e}")), "the text itself is shown");
      }
    }),
  );
}
runner.test(
  "hostile addresses are answered and reflected as text",
  withTab(admin, async ({ page, goto, faults }) => {
    for (const address of [
      `/findings?q=${encodeURIComponent('"><script>alert(1)</script>')}`,
      `/findings?q=${encodeURIComponent("x".repeat(20000))}`,
      "/findings?order=%22%3E%3Cscript%3E&n=-1&page=%00&col=%3Cb%3E&from=x&done=%3Cb%3E:1",
      "/finding/%3Cscript%3Ealert(1)%3C/script%3E",
      "/finding/organizations/1/sources/1/locations/global/findings/..%2f..%2fetc",
      "/index/%3Cscript%3E",
      `/index?search=${encodeURIComponent("<script>alert(1)</script>")}`,
      "/login?next=//evil.test&code=%22%3E%3Cscript%3E",
    ]) {
      const response = await goto(address);
      assert.ok(response.status() < 500, `${address}: ${response.status()}`);
      assert.equal(await page.locator("main script").count(), 0);
    }
    // The browser itself reports the 4xx pages as failed resources.
    faults.splice(0, faults.length, ...faults.filter((fault) => !/status of 4\d\d/.test(fault)));
  }),
);

const passed = await runner.run();
await browser.close();
await server.stop();
process.exit(passed ? 0 : 1);
