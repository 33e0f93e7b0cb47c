// duplicate: every shopper presses three times at once; one order each, whose number all learn.
import exec from 'k6/execution';
import { count, judged, race, rate, seconds, steadily, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
export const options = {
  summaryTrendStats: trends,
  scenarios: { duplicate: steadily() },
  thresholds: judged({
    flash_accepted: [`count>=${rate * seconds - 1}`], flash_duplicate: [`count>=${2 * (rate * seconds - 1)}`],
  }),
};

export default function () {
  const answers = race(exec.scenario.iterationInTest, 3).map(count);
  const won = answers.filter((answer) => answer.status === 202).length;
  if (won !== 1) wrong(`a shopper got ${won} orders`);
  if (new Set(answers.map((answer) => answer.order)).size !== 1) wrong('a shopper was told of different orders');
}
