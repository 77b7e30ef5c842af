// SPDX-License-Identifier: Apache-2.0
// Buys what is cheapest: asks the shops at the same time, has a person agree, and orders once.
'use strict';

const fs = require('node:fs');
const { agent, idempotencyKey, serve, tool } = require('aetheris');

const SHOPS = { north: 19, south: 17, west: 23 };

// read: asked again after a crash, as often as need be.
const price = tool('price', { policy: 'read', attempts: 3, pause: '100ms' }, shop => SHOPS[shop]);

// once: if it is not known whether it happened, a person is asked, and it is not done a second time.
const order = tool('order', (shop, what) => {
  fs.appendFileSync('orders.txt', `${what} from ${shop}\n`);
  return `${what} is ordered`;
});

// keyed: done again with the same key, by which the other side knows it.
const tell = tool('tell', { policy: 'keyed' }, text => {
  fs.appendFileSync('told.txt', `${idempotencyKey()} ${text}\n`);
});

agent('buyer', async (ctx, { what, limit }) => {
  const shops = Object.keys(SHOPS);
  const prices = await Promise.all(shops.map(shop => price(shop)));
  const least = Math.min(...prices);
  const shop = shops[prices.indexOf(least)];
  if (least > limit) {
    const { approved, by } = await ctx.approve(`${what} costs ${least}, over ${limit}`, { timeout: '7d', full: true });
    if (!approved) return { bought: false, by };
  }
  const said = await order(shop, what);
  await tell(said);
  return { bought: true, shop, price: least };
});

serve();
