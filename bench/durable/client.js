// SPDX-License-Identifier: Apache-2.0
// client.js aether|restate PORT: the client of a server, which is asked over HTTP by connections that are kept.
'use strict';

const http = require('node:http');
const { obey } = require('./load.js');

const [, , which, port] = process.argv;
const OVER = ['failed', 'cancelled', 'stuck'];
const agent = new http.Agent({ keepAlive: true, noDelay: true });

function ask(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const request = http.request({ agent, port, host: '127.0.0.1', method, path, headers }, answer => {
      let text = '';
      answer.setEncoding('utf8').on('data', more => (text += more));
      answer.on('end', () => {
        if (answer.statusCode < 300) resolve(text);
        else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
      });
    });
    request.on('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

const restate = {
  run: given => ask('POST', '/flow/run', given),
  begin: given => ask('POST', '/flow/run/send', given),
};

const aether = {
  begin: async given => JSON.parse(await ask('POST', '/v1/jobs', { agent: 'work', input: given })).id,
  async run(given) {
    const id = await this.begin(given);
    for (;;) {
      const job = JSON.parse(await ask('GET', `/v1/jobs/${id}?wait=25`)); // seconds, if it has not ended before
      if (job.status === 'completed') return;
      if (OVER.includes(job.status)) throw new Error(`job ${id} is ${job.status}: ${job.error}`);
    }
  },
};

const peer = { aether, restate }[which];
obey({ begin: given => peer.begin(given), run: given => peer.run(given) });
