// Opens the findings page of a running server and prints each time's first contentful paint, in milliseconds, as JSON.
//
//   HULLWATCH_TOKEN=… node paint.mjs ADDRESS TIMES
import { openTab, startBrowser } from "./harness.mjs";

const [address, times] = process.argv.slice(2);
const token = process.env.HULLWATCH_TOKEN;
if (!token || !Number(times)) {
  console.error("usage: HULLWATCH_TOKEN=TOKEN node paint.mjs ADDRESS TIMES");
  process.exit(2);
}
const browser = await startBrowser();
try {
  const { page, context } = await openTab(browser, { address }, { token });
  const paints = [];
  for (let time = 0; time < Number(times); time += 1) {
    const tab = time === 0 ? page : await context.newPage();
    await tab.goto(`${address}/findings`);
    const paint = await tab.evaluate(
      () =>
        new Promise((resolve) => {
          new PerformanceObserver((list) => {
            const found = list.getEntriesByName("first-contentful-paint")[0];
            if (found) resolve(found.startTime);
          }).observe({ type: "paint", buffered: true });
        }),
    );
    paints.push(paint);
    if (tab !== page) await tab.close();
  }
  console.log(JSON.stringify(paints));
} finally {
  await browser.close();
}
