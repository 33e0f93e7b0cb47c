// steady: distinct shoppers at a constant rate, each buys once; there is enough for all.
import exec from 'k6/execution';
import { buy, due, judged, rate, seconds, steadily, trends, summary } from './lib.js';

export { summary as handleSummary };
export const options = {
  summaryTrendStats: trends,
  scenarios: { steady: steadily() },
  thresholds: judged({
    flash_accepted: [`count>=${rate * seconds - 1}`],
    'http_req_duration{name:buy}': ['p(99)<1000'],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  due(exec.scenario, user);
  buy(user);
}
