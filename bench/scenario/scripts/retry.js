// retry: every attempt is sent three times with one Idempotency-Key; all get the one answer.
import exec from 'k6/execution';
import { accepted, judged, race, rate, replayed, seconds, steadily, unexpected, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
export const options = {
  summaryTrendStats: trends,
  scenarios: { retry: steadily() },
  thresholds: judged({
    flash_accepted: [`count>=${rate * seconds - 1}`], flash_replayed: [`count>=${2 * (rate * seconds - 1)}`],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  const orders = new Set();
  race(user, 3, `key-${user}`).forEach((answer) => {
    if (answer.status !== 202) return wrong(`a retry was answered ${JSON.stringify(answer)}`, unexpected);
    (orders.has(answer.order) ? replayed : accepted).add(1);
    orders.add(answer.order);
  });
  if (orders.size > 1) wrong(`one key won ${orders.size} orders`);
}
