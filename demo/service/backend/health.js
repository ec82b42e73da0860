// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const express = require('express');

const MINIMUM_DISK_FREE = 0.1;
const MAXIMUM_MEMORY_USED = 0.9;

async function check(look) {
  try {
    return await look();
  } catch (error) {
    return { ok: false, error: error.message };
  }
}

module.exports = function health(knex) {
  const databaseFolder = path.dirname(knex.client.config.connection.filename);

  async function database() {
    await knex('users').count();
    return { ok: true };
  }

  async function disk() {
    const { bavail, bfree, blocks } = await fs.statfs(databaseFolder);
    // As in the output of df, blocks that are reserved for root count neither as used nor as free.
    const free = bavail / (blocks - bfree + bavail);
    return { ok: free > MINIMUM_DISK_FREE, free: Number(free.toFixed(3)) };
  }

  function memory() {
    const used = 1 - os.freemem() / os.totalmem();
    return { ok: used < MAXIMUM_MEMORY_USED, used: Number(used.toFixed(3)) };
  }

  const router = express.Router();

  // As in the real service, these two routes show that the process answers. They do not check the database.
  router.get('/', (request, response) => {
    response.json({ status: 'ok', timestamp: new Date().toISOString(), uptime: process.uptime() });
  });
  router.get('/live', (request, response) => {
    response.json({ status: 'ok' });
  });

  router.get('/ready', async (request, response) => {
    const checks = { database: await check(database), disk: await check(disk), memory: await check(memory) };
    const ready = Object.values(checks).every(({ ok }) => ok);
    response.status(ready ? 200 : 503).json({ status: ready ? 'ok' : 'error', checks });
  });

  return router;
};
