// SPDX-License-Identifier: Apache-2.0
// client.js aether|restate PORT: the client of a server, which is asked over HTTP by connections that are kept.
'use strict';

const http = require('node:http');
const { obey } = require('./load.js');

const [, , which, port] = process.argv;
const agent = new http.Agent({ keepAlive: true, noDelay: true });

function ask(method, path, body, accept) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json', ...(accept && { Accept: accept }) };
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
  run: given => ask('POST', '/work/run', given),
  begin: given => ask('POST', '/work/run/send', given),
};

const aether = {
  begin: async given => JSON.parse(await ask('POST', '/v1/jobs', { agent: 'work', input: given })).id,
  async run(given) {
    const id = await this.begin(given);
    const events = await ask('GET', `/v1/jobs/${id}/events`, undefined, 'text/event-stream');
    if (!events.includes('"succeeded"')) throw new Error(`job ${id}: ${events.slice(-400)}`);
  },
};

const peer = { aether, restate }[which];
obey({ begin: given => peer.begin(given), run: given => peer.run(given) });
