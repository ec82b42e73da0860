// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

// A service that differs from the runbook's: it lists the visitors of a front desk. Each release applies its own
// migrations.
const http = require('node:http');
const knex = require('knex')(require('./knexfile').production);

async function answer(request) {
  if (request.url === '/healthz') {
    await knex('visitors').first();
    return [200, { status: 'UP' }];
  }
  if (request.url === '/visitors' && request.method === 'POST') {
    let body = '';
    for await (const chunk of request) {
      body += chunk;
    }
    await knex('visitors').insert({ name: JSON.parse(body).name });
    return [201, {}];
  }
  if (request.url === '/visitors') {
    return [200, await knex('visitors').pluck('name')];
  }
  return [404, {}];
}

http
  .createServer(async (request, response) => {
    const [status, body] = await answer(request).catch((error) => {
      console.error(error.stack);
      return [500, { status: 'DOWN' }];
    });
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  })
  .listen(Number(process.env.DESK_PORT), () => console.log(`The desk is open on port ${process.env.DESK_PORT}`));
