// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const express = require('express');

const log = require('./log');

const LEAK_MIB = 16;
const DOUBLES_PER_MIB = (1024 * 1024) / 8;

/** Routes that cause faults inside the process. They exist only if NEXUS_DEMO_FAULTS is "on". */
module.exports = function faults() {
  const router = express.Router();
  const kept = [];

  // Plain arrays are in V8's heap, so --max-old-space-size limits them. A Buffer would be outside the heap.
  router.post('/leak', (request, response) => {
    kept.push(new Array(LEAK_MIB * DOUBLES_PER_MIB).fill(Math.random()));
    log.error(`Leaking: ${kept.length * LEAK_MIB} MiB kept`);
    response.json({ kept_mib: kept.length * LEAK_MIB });
  });

  router.post('/rejection', (request, response) => {
    response.on('finish', () => {
      Promise.reject(new Error('Background job failed: NEXUS_DEMO_FAULTS asked for it'));
    });
    response.status(202).json({ status: 'accepted' });
  });

  // The real service sends this response if its rate limit rejects a login.
  router.post('/limited', (request, response) => {
    response.status(429).json({ error: 'Too many login attempts' });
  });

  return router;
};
