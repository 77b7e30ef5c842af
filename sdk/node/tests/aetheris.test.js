// SPDX-License-Identifier: Apache-2.0
// aetheris without an Aether: what the code of an agent asks for, and what it is given.
'use strict';

const { test } = require('node:test');
const assert = require('node:assert');

const { NotExecuted, StepFailed, TimedOut, Unknown, agent, idempotencyKey, tool } = require('../aetheris');
const { AGENTS } = require('../aetheris/code.js');
const { Refused } = require('../aetheris/carrier.js');
const { asRecorded, milliseconds } = require('../aetheris/failures.js');
const { Recorder } = require('./recorder.js');

const paths = recorder => recorder.said('step.begin').map(each => each.path);

test('a step is done once and given back to whoever runs the code again', async () => {
  const house = new Recorder();
  const done = [];
  const pay = tool('pay', { policy: 'keyed' }, async (order, { sum }) => {
    done.push([order, sum, idempotencyKey()]);
    return { order, at: new Date(0), none: undefined };
  });
  const code = async (ctx, { n }) => {
    const paid = await pay('o', { sum: n });
    return [paid, await ctx.step('twice', () => done.length), await ctx.step('twice', () => done.length)];
  };
  const first = await house.run(code);
  assert.deepStrictEqual(first, [{ order: 'o', at: '1970-01-01T00:00:00.000Z' }, 1, 1]);
  assert.deepStrictEqual(await house.run(code), first);
  assert.deepStrictEqual(done, [['o', 1, 'k']]);
  assert.deepStrictEqual(paths(house), ['pay', 'twice', 'twice.2', 'pay', 'twice', 'twice.2']);
  assert.deepStrictEqual(house.said('step.begin')[0].args, { args: ['o', { sum: 1 }] });
});

test('the end of a step and the beginning of the next go in one frame', async () => {
  const house = new Recorder();
  await house.run(async ctx => {
    for (const name of ['a', 'b', 'c']) await ctx.step(name, async () => name);
  });
  const verbs = house.frames.map(frame => frame.map(each => `${each.do} ${each.path}`).join());
  const begin = 'step.begin';
  assert.deepStrictEqual(verbs.slice(0, 3), [`${begin} a`, `step.end a,${begin} b`, `step.end b,${begin} c`]);
});

test('nothing overtakes the end of a step', async () => {
  const house = new Recorder();
  const signal = () => {
    const made = {};
    made.came = new Promise(resolve => (made.come = resolve));
    return made;
  };
  const [goesOn, answered] = [signal(), signal()];
  const frame = house.frame.bind(house);
  house.carrier.frame = async body => {
    const answers = await frame(body);
    if (body.messages[0].do === 'step.end') await answered.came;
    return answers;
  };
  const going = house.run(async ctx => {
    await ctx.step('a', () => 1);
    await goesOn.came;
    return ctx.step('b', () => 2);
  });
  while (house.said('step.end').length === 0) await new Promise(setImmediate);
  goesOn.come(); // the end is on its way
  for (let i = 0; i < 20; ++i) await new Promise(setImmediate);
  assert.deepStrictEqual(paths(house), ['a']);
  answered.come();
  assert.strictEqual(await going, 2);
});

test('a tool that an agent calls is a step; elsewhere, and within a step, it is a function', async () => {
  const house = new Recorder();
  const add = tool('add', (a, b) => a + b);
  assert.strictEqual(add(1, 2), 3);
  assert.strictEqual(await house.run(() => add(1, 2)), 3);
  assert.strictEqual(await house.run(ctx => ctx.step('outer', () => add(3, 4))), 7);
  assert.deepStrictEqual(paths(house), ['add', 'outer']);
});

test('what a step throws is recorded and thrown again', async () => {
  const house = new Recorder();
  const bad = () => {
    throw new TypeError('no');
  };
  for (let i = 0; i < 2; ++i)
    await assert.rejects(
      house.run(ctx => ctx.step('bad', bad)),
      error => error instanceof StepFailed && error.path === 'bad' && error.reason === 'TypeError: no',
    );
  assert.strictEqual(house.said('step.end').length, 1);
});

test('a step is tried again as its policy says', async () => {
  const tries = async (options, failure) => {
    const house = new Recorder();
    let calls = 0;
    const code = () => {
      if (++calls < 3) throw new failure('no');
      return calls;
    };
    const way = { attempts: 5, pause: 1, ...options };
    const given = await house.run(ctx => ctx.step('s', code, way).catch(() => 'failed'));
    return [given, calls, ...house.said('step.end').map(each => each.outcome)];
  };
  assert.deepStrictEqual(await tries({ policy: 'read' }, Error), [3, 3, 'error', 'error', 'ok']);
  assert.deepStrictEqual(await tries({}, NotExecuted), [3, 3, 'not_executed', 'not_executed', 'ok']);
  assert.deepStrictEqual((await tries({}, Error)).slice(0, 2), ['failed', 1]);
  assert.deepStrictEqual((await tries({}, Unknown)).slice(0, 2), ['failed', 1]);
});

test('a step whose result cannot be recorded fails, the same way each time, and is not tried again', async () => {
  const house = new Recorder();
  const code = ctx => ctx.step('set', () => new Set([1]), { policy: 'read', attempts: 3 }).catch(error => error.message);
  const failed = await house.run(code);
  assert.match(failed, /it was done, and its result cannot be recorded: .*Set/);
  assert.strictEqual(await house.run(code), failed);
  assert.deepStrictEqual(house.said('step.end').map(each => [each.outcome, each.again]), [['error', undefined]]);
});

test('what Aether has not recorded yet is asked again, and nothing is called before', async () => {
  const house = new Recorder();
  const frame = house.frame.bind(house);
  const away = ['step.begin', 'step.end']; // with which the close goes
  let calls = 0;
  house.carrier.frame = async body => {
    if (body.messages[0].do === away[0]) {
      assert.strictEqual(calls, away.shift() === 'step.begin' ? 0 : 1);
      return body.messages.map(() => ({ is: 'open' }));
    }
    return frame(body);
  };
  assert.strictEqual(await house.run(ctx => ctx.step('a', () => ++calls)), 1);
  assert.deepStrictEqual(away, []);
  const verbs = house.frames.flat().map(each => each.do);
  assert.deepStrictEqual(verbs, ['step.begin', 'step.end', 'close']);
});

test('names cannot collide, and are what Aether takes', async () => {
  const house = new Recorder();
  const names = ['a', 'a', 'a.2', 'a', 'b/c#d', 'b-c-d', '', 'ü'.repeat(300)];
  await house.run(async ctx => {
    for (const name of names) await ctx.step(name, () => 1);
  });
  const found = paths(house);
  assert.strictEqual(new Set(found).size, names.length, found.join());
  for (const path of found) assert.ok(Buffer.byteLength(path) <= 200 && /^[^/~#]+$/.test(path), path);
});

test('branches go in one frame and are not strict, and one step alone is', async () => {
  const house = new Recorder();
  await house.run(async ctx => {
    await ctx.step('alone', () => 1);
    await Promise.all([0, 1, 2].map(i => ctx.step(`b${i}`, () => i)));
  });
  const strict = Object.fromEntries(house.said('step.begin').map(each => [each.path, each.strict]));
  assert.deepStrictEqual(strict, { alone: true, b0: false, b1: false, b2: false });
  const frame = house.frames.find(each => each.some(one => one.path === 'b0'));
  assert.deepStrictEqual(frame.map(each => each.path).slice(-3), ['b0', 'b1', 'b2']);
});

test('when a run goes from its worker nothing of its code goes on, whatever it catches', async () => {
  const house = new Recorder();
  const seen = [];
  const { back, held } = await house.run(async ctx => {
    ctx.left.addEventListener('abort', () => seen.push('left'));
    try {
      seen.push(await ctx.approve('?'));
    } catch {
      seen.push('caught');
    }
    seen.push('after');
  });
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.strictEqual(back.why, 'parked');
  assert.deepStrictEqual(seen, ['left']);
  assert.ok(held.left.aborted);
});

test('a run with branches is given back when all of them wait, and are asked about in one frame', async () => {
  const house = new Recorder();
  house.end('b', 'pure', { end: 'answered', payload: 5 });
  const { back } = await house.run(async ctx => {
    await Promise.race([ctx.wait('a'), ctx.wait('b')]);
    await ctx.step('after', () => 1);
    await ctx.wait('c');
  });
  assert.strictEqual(back.why, 'parked');
  assert.deepStrictEqual(paths(house), ['after']);
  const asked = house.frames.map(frame => frame.filter(each => each.give_back).map(each => each.path).sort());
  assert.deepStrictEqual(asked.filter(each => each.length > 0), [['a', 'c']]);
});

test('a run is not given back while a step goes on beside its waits', async () => {
  const house = new Recorder();
  let done;
  const looked = () => house.said('wait').length;
  const { back } = await house.run(ctx =>
    Promise.all([ctx.wait('a'), ctx.step('long', () => new Promise(resolve => (done = resolve))), looking()]),
  );
  async function looking() {
    while (looked() < 8) await new Promise(setImmediate);
    assert.ok(house.said('wait').every(each => !each.give_back));
    done(1);
  }
  assert.strictEqual(back.why, 'parked');
  assert.strictEqual(house.said('step.end')[0].result, 1);
});

test('a branch that is left waiting when the code ends asks for nothing more', async () => {
  const house = new Recorder();
  house.end('b', 'pure', { end: 'answered', payload: 5 });
  const frame = house.frame.bind(house);
  house.carrier.frame = async body => {
    const answers = await frame(body);
    if (body.messages.some(each => each.do === 'close')) await new Promise(resolve => setTimeout(resolve, 150));
    return answers;
  };
  assert.strictEqual(await house.run(ctx => Promise.race([ctx.wait('b'), ctx.sleep('1h')])), 5);
  assert.strictEqual(house.frames.flat().at(-1).do, 'close');
});

test('nothing is said before a message that says that it is alone has its answer', async () => {
  const house = new Recorder();
  let answer;
  const frame = house.frame.bind(house);
  house.carrier.frame = async body => {
    const answers = await frame(body);
    if (body.messages[0].path === 'a' && !answer) await new Promise(resolve => (answer = resolve));
    return answers;
  };
  const going = house.run(async ctx => {
    const a = ctx.step('a', () => 1);
    while (!answer) await new Promise(setImmediate);
    return Promise.all([a, ctx.step('b', () => 2)]);
  });
  while (!answer) await new Promise(setImmediate);
  for (let i = 0; i < 20; ++i) await new Promise(setImmediate);
  assert.deepStrictEqual(paths(house), ['a']);
  answer();
  assert.deepStrictEqual(await going, [1, 2]);
});

test('what was decided is a plain yes or no, for a Decision would always be true', async () => {
  const house = new Recorder();
  house.end('approve', 'pure', { end: 'rejected', by: 'user:x', payload: { why: 'no' } });
  house.end('approve.2', 'pure', { end: 'approved', by: 'user:x', payload: null });
  house.end('go', 'pure', { end: 'timed_out', payload: null });
  const given = await house.run(async ctx => [await ctx.approve('?'), await ctx.approve('?', { full: true })]);
  assert.deepStrictEqual(given[0], false);
  assert.deepStrictEqual(given[1], { approved: true, timedOut: false, end: 'approved', by: 'user:x', form: null });
  await assert.rejects(house.run(ctx => ctx.wait('go', { timeout: '1s' })), TimedOut);
});

test('time, numbers and models are as they were', async () => {
  const house = new Recorder();
  const code = async ctx => [await ctx.now(), await ctx.uuid(), await ctx.random(), await ctx.llm('hi')];
  const first = await house.run(code);
  assert.ok(first[0] instanceof Date);
  assert.deepStrictEqual(await house.run(code), first);
  assert.strictEqual(first[3], 'said 1');
  assert.deepStrictEqual(house.said('call')[0].args, { prompt: 'hi' });
});

test('a message that is refused fails its step alone', async () => {
  const house = new Recorder();
  const frame = house.frame.bind(house);
  house.carrier.frame = async body => {
    if (body.messages.some(each => each.path === 'bad')) throw new Refused('request-invalid', 'too long');
    return frame(body);
  };
  const given = await house.run(ctx =>
    Promise.all([ctx.step('good', () => 1), ctx.step('bad', () => 2).catch(error => error.kind)]),
  );
  assert.deepStrictEqual(given, [1, 'request-invalid']);
});

test('an end that is refused ends the run, for its code went on already', async () => {
  const house = new Recorder();
  const frame = house.frame.bind(house);
  house.carrier.frame = async body => {
    if (body.messages.some(each => each.do === 'step.end')) throw new Refused('request-invalid', 'too long');
    return frame(body);
  };
  const { back } = await house.run(async ctx => {
    await ctx.step('a', () => 'x');
    await ctx.step('b', () => 'y');
  });
  assert.strictEqual(back.why, 'closed');
  assert.match(house.said('close')[0].error, /too long/);
});

test('a worker that stops gives its runs back before the next step', async () => {
  const house = new Recorder();
  const { back } = await house.run(async ctx => {
    await ctx.step('a', () => (house.isStopping = true));
    await ctx.step('b', () => 1);
  });
  assert.strictEqual(back.why, 'released');
  const verbs = house.frames.flat().map(each => each.do);
  assert.deepStrictEqual(verbs, ['step.begin', 'step.end', 'release']);
});

test('a branch that fails and that nobody awaits does not end the process', async () => {
  const house = new Recorder();
  const given = await house.run(async ctx => {
    ctx.step('bad', () => {
      throw new Error('no');
    });
    await ctx.step('good', () => new Promise(resolve => setTimeout(resolve, 20)));
    return 'good';
  });
  assert.strictEqual(given, 'good');
});

test('values are as they come back from the record', () => {
  assert.deepStrictEqual(asRecorded({ a: [undefined, 1e300, 2 ** 53], b: undefined }), { a: [null, 1e300, 2 ** 53] });
  let deep = 1;
  for (let i = 0; i < 50; ++i) deep = [deep];
  let far = deep;
  for (let i = 0; i < 100_000; ++i) far = [far];
  const long = 'ü'.repeat(249_999);
  const bads = [NaN, Infinity, 2 ** 60, 5n, new Map(), () => 1, deep, far, `${long}x`, 'a\ud800b', { '\udfff': 1 }];
  for (const bad of bads) assert.throws(() => asRecorded([bad]), TypeError);
  for (const good of [deep, long, '\\ud800', '\u{1f600}']) assert.deepStrictEqual(asRecorded(good), good);
  assert.strictEqual(asRecorded(undefined), null);
});

test('durations are milliseconds or texts', () => {
  assert.deepStrictEqual(['250ms', '1.5s', '7d', 20].map(milliseconds), [250, 1500, 604800000, 20]);
  for (const bad of ['7', 'week', {}, NaN]) assert.throws(() => milliseconds(bad), TypeError);
});

test('agents and tools need names and functions', () => {
  assert.throws(() => agent('x'), TypeError);
  assert.throws(() => agent(() => 1), TypeError);
  assert.throws(() => tool(() => 1), TypeError);
  assert.throws(() => tool('x', { policy: 'twice' }, () => 1), TypeError);
  assert.strictEqual(tool({ policy: 'read' })(function named() {}).name, 'named');
  assert.strictEqual(agent(async function clerk() {}).name, 'clerk');
  AGENTS.clear();
});
