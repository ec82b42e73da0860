// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const express = require('express');

const PAGE = 50;
const PRIORITIES = ['low', 'medium', 'high', 'critical'];

/** Incidents can be reported and listed without a login, so that users who cannot log in can report this problem. */
module.exports = function incidents(knex) {
  const router = express.Router();

  router.get('/', async (request, response) => {
    const [{ total }] = await knex('incidents').count({ total: '*' });
    response.json({ total, incidents: await knex('incidents').orderBy('id', 'desc').limit(PAGE) });
  });

  router.post('/', async (request, response) => {
    const { title, description = '', priority = 'medium' } = request.body ?? {};
    if (
      typeof title !== 'string' ||
      !title.trim() ||
      typeof description !== 'string' ||
      !PRIORITIES.includes(priority)
    ) {
      response.status(400).json({ error: `title is required; priority is one of ${PRIORITIES.join(', ')}` });
      return;
    }
    const created_at = new Date().toISOString();
    const id = await knex.transaction(async (transaction) => {
      const [incident] = await transaction('incidents').insert({ title, description, priority, created_at });
      await transaction('audit_logs').insert({ action: 'create', entity: 'incident', entity_id: incident, created_at });
      return incident;
    });
    response.status(201).json({ id, title, priority, status: 'open', created_at });
  });

  return router;
};
