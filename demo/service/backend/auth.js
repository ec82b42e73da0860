// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const bcrypt = require('bcryptjs');
const express = require('express');
const jwt = require('jsonwebtoken');

module.exports = function auth(knex, secret) {
  const router = express.Router();

  router.post('/login', async (request, response) => {
    const { username, password } = request.body ?? {};
    if (typeof username !== 'string' || typeof password !== 'string') {
      response.status(400).json({ error: 'username and password are required' });
      return;
    }
    const user = await knex('users').where({ username }).first();
    if (!user || !(await bcrypt.compare(password, user.password_hash))) {
      response.status(401).json({ error: 'Invalid username or password' });
      return;
    }
    await knex('user_activity').insert({ user_id: user.id, activity: 'login', created_at: new Date().toISOString() });
    const token = jwt.sign({ sub: String(user.id), username, role: user.role }, secret, { expiresIn: '1h' });
    response.json({ token, user: { id: user.id, username, role: user.role } });
  });

  router.get('/me', (request, response) => {
    const token = (request.get('authorization') ?? '').replace(/^Bearer /, '');
    try {
      const { username, role } = jwt.verify(token, secret);
      response.json({ username, role });
    } catch {
      response.status(401).json({ error: 'A valid token is required' });
    }
  });

  return router;
};
