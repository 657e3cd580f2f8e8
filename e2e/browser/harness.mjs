// Starts the review page over a fresh store and a Chromium to look at it, and counts what passes.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Where pictures go; not part of the repository. */
export const shots = join(here, "artifacts");

/** The example server over a new store. `tell` makes something happen in it and gives its answer. */
export async function startServer(program) {
  const directory = mkdtempSync(join(tmpdir(), "hullwatch-browser-"));
  const child = spawn(program, [join(directory, "state"), "120"], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const waiting = [];
  lines.on("line", (line) => waiting.shift()?.resolve(JSON.parse(line)));
  child.on("exit", (code) => waiting.splice(0).forEach(({ reject }) => reject(new Error(`the server ended with ${code}`))));
  const answer = () => new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  const told = await answer();
  return {
    ...told,
    tell(command) {
      const answered = answer();
      child.stdin.write(`${command}\n`);
      return answered;
    },
    async stop() {
      child.stdin.end();
      await new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve()));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A browser without network services, with a new profile each time. */
export async function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A tab, signed in when a token is given, that notes every error, policy violation and dialog. */
export async function openTab(browser, server, { token, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const faults = [];
  await context.exposeBinding("__violation", (_, text) => faults.push(`policy: ${text}`));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      window.__violation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
    );
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("response", (response) => {
    if (response.status() >= 500) faults.push(`${response.status()} ${response.url()}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server.address) && !url.startsWith("about:") && !url.startsWith("data:") && !url.startsWith("blob:")) {
      faults.push(`outside: ${url}`);
    }
  });
  const tab = {
    page,
    context,
    faults,
    goto: (path) => page.goto(server.address + path),
    close: () => context.close(),
  };
  if (token) {
    await tab.goto("/login");
    await page.fill("#token", token);
    await page.press("#token", "Enter");
    await page.waitForURL(/\/findings/);
  }
  return tab;
}

/** Keeps a picture of the page. */
export async function shot(page, name, options = {}) {
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), ...options });
}

/** Faults of accessibility that axe-core calls serious or critical. */
export async function accessibilityFaults(page) {
  // Evaluated from outside: the page's own policy rightly refuses to load it.
  await page.evaluate(axeSource);
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return result.violations
    .filter((violation) => ["serious", "critical"].includes(violation.impact))
    .map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

/** Runs tests one after the other and prints the count at the end. */
export class Runner {
  #tests = [];

  test(name, body) {
    this.#tests.push([name, body]);
  }

  async run() {
    let [passed, failed] = [0, 0];
    const only = process.env.ONLY;
    for (const [name, body] of this.#tests) {
      if (only && !name.includes(only)) continue;
      try {
        await body();
        passed += 1;
        console.log(`ok    ${name}`);
      } catch (error) {
        failed += 1;
        console.log(`FAIL  ${name}\n      ${String(error.stack ?? error).replaceAll("\n", "\n      ")}`);
      }
    }
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 && passed > 0;
  }
}
