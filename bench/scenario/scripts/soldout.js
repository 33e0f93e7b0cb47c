// soldout: everything is sold before the crowd comes; everybody learns it at once.
import exec from 'k6/execution';
import { buy, due, judged, rate, seconds, steadily, stock, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
export const options = {
  summaryTrendStats: trends,
  setupTimeout: '60s',
  scenarios: { soldout: steadily() },
  thresholds: judged({
    flash_accepted: [`count==${stock}`], flash_sold_out: [`count>=${rate * seconds - 1}`],
    'http_req_duration{name:buy}': ['p(99)<1000'],
  }),
};

export function setup() {
  for (let user = 0; user < stock; user++) buy(user);
}

export default function () {
  const n = exec.scenario.iterationInTest;
  due(exec.scenario, n);
  if (buy(stock + n).status === 202) wrong('sold more than there was');
}
