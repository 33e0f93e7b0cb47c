// spike: the crowd of the opening second, at a step from little to the full rate; few win.
import exec from 'k6/execution';
import { buy, judged, rate, seconds, stock, vus, trends, summary } from './lib.js';

export { summary as handleSummary };
const quiet = Math.max(1, Math.floor(rate / 50));
export const options = {
  summaryTrendStats: trends,
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate', startRate: quiet, timeUnit: '1s',
      preAllocatedVUs: 2 * vus, maxVUs: 2 * vus, gracefulStop: '10s',
      stages: [
        { target: quiet, duration: '1s' }, { target: rate, duration: '0s' },
        { target: rate, duration: `${seconds}s` }, { target: quiet, duration: '1s' },
      ],
    },
  },
  thresholds: judged({ flash_accepted: [`count==${stock}`], flash_sold_out: [`count>${stock}`] }),
};

export default function () { buy(exec.scenario.iterationInTest); }
