// mixed: of ten who come, six look, three buy and one presses twice.
import http from 'k6/http';
import exec from 'k6/execution';
import { base, item, buy, due, headers, judged, rate, seconds, steadily, unexpected, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
export const options = {
  summaryTrendStats: trends,
  scenarios: { mixed: steadily() },
  thresholds: judged({
    flash_accepted: [`count>=${0.4 * rate * seconds - 10}`], flash_duplicate: [`count>=${0.1 * rate * seconds - 10}`],
    iterations: [`count>=${rate * seconds - 1}`],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  due(exec.scenario, user);
  const part = user % 10;
  if (part < 6) {
    const seen = http.get(`${base}/v1/items/${item}`, { headers: headers(user), tags: { name: 'look' } });
    if (seen.status !== 200) wrong(`the item is not shown: ${seen.body}`, unexpected);
    return;
  }
  const { order } = buy(user);
  if (part === 9 && buy(user).order !== order) wrong('the duplicate does not name the order that is held');
}
