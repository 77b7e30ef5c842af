# SPDX-License-Identifier: Apache-2.0
"""As test_workers_killed, for workers in Node, whose messages are fewer: the end of a step goes with what is next."""

from node_workers import NodeHouse
from test_workers_killed import die_at_each_moment

DYING = """
const { HttpCarrier } = require(require.resolve('aetheris').replace('index.js', 'carrier.js'));
const [MOMENT, NUMBER] = (process.env.DIE || 'never:0').split(':');
const passed = { before: 0, after: 0, inside: 0 };

function passBy(moment) {
  if (++passed[moment] === Number(NUMBER) && moment === MOMENT) process.kill(process.pid, 'SIGKILL');
}

const real = HttpCarrier.prototype.frame;
HttpCarrier.prototype.frame = async function (body) {
  if (body.messages[0].do === 'beat') return real.call(this, body);
  passBy('before');
  const answers = await real.call(this, body);
  passBy('after');
  return answers;
};

async function told(path) {
  const count = await tell(path);
  passBy('inside');
  return count;
}

const once = tool('once', run => told(`/echo/once.${run}`));

agent('LANE', async (ctx, run) => {
  await ctx.step('read', told, { args: [`/echo/read.${run}`], policy: 'read' });
  await once(run);
  await ctx.step('keyed', told, { args: [`/echo/keyed.${run}`], policy: 'keyed' });
  await ctx.call('http', { method: 'POST', url: `${JUDGE}/echo/call.${run}` });
  const same = await ctx.random();
  await ctx.sleep(1);
  await ctx.wait('go');
  await once(run);
  return [same, (await ctx.random()) !== same];
});
"""


def test_no_death_of_a_worker_in_node_makes_a_call_twice_or_loses_a_run(tmp_path):
    die_at_each_moment(tmp_path / "house", NodeHouse, DYING, 12)
