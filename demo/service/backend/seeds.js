// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

'use strict';

const crypto = require('node:crypto');
const bcrypt = require('bcryptjs');

const log = require('./log');

const BCRYPT_ROUNDS = 10;

async function users() {
  // If ADMIN_PASSWORD is not set, the password is random and not shown. This is safer than a known default password.
  const secrets = { admin: process.env.ADMIN_PASSWORD || crypto.randomBytes(24).toString('base64url') };
  const created_at = new Date().toISOString();
  const roles = { admin: 'admin', manager: 'manager', analyst: 'analyst', viewer: 'viewer' };
  return Promise.all(
    Object.entries(roles).map(async ([username, role]) => ({
      username,
      email: `${username}@itsm.example`,
      password_hash: await bcrypt.hash(
        secrets[username] || crypto.randomBytes(24).toString('base64url'),
        BCRYPT_ROUNDS,
      ),
      role,
      created_at,
    })),
  );
}

function incidents() {
  const created_at = new Date().toISOString();
  return [
    { title: 'Mail delivery is delayed', priority: 'high', reported_by: 2, asset_id: 1, created_at },
    { title: 'VPN drops every hour', priority: 'medium', reported_by: 3, asset_id: 2, created_at },
    { title: 'Printer on floor 3 is offline', priority: 'low', reported_by: 3, asset_id: 3, created_at },
  ];
}

function changes() {
  const planned_at = new Date(Date.now() + 7 * 86400e3).toISOString();
  return [
    { title: 'Renew the certificate of the mail gateway', risk: 'medium', requested_by: 2, planned_at },
    { title: 'Enlarge the file server', risk: 'low', requested_by: 1, planned_at },
  ];
}

function assets() {
  return [
    { tag: 'SRV-0001', name: 'Mail gateway', kind: 'server', owner_id: 1 },
    { tag: 'NET-0001', name: 'VPN concentrator', kind: 'network', owner_id: 1 },
    { tag: 'PRN-0003', name: 'Printer, floor 3', kind: 'printer', owner_id: 2 },
  ];
}

function auditLogs() {
  return [{ action: 'seed', entity: 'database', entity_id: 0, created_at: new Date().toISOString() }];
}

function userActivity() {
  return [{ user_id: 1, activity: 'account_created', created_at: new Date().toISOString() }];
}

// The tables. Their foreign keys require that they are filled in this order.
const SEEDS = {
  users,
  assets,
  incidents,
  changes,
  audit_logs: auditLogs,
  user_activity: userActivity,
};

/** Fills empty tables at each start. Therefore, as in the real service, a new, empty database looks healthy. */
async function seedEmptyTables(knex) {
  for (const [table, rows] of Object.entries(SEEDS)) {
    if (!(await knex(table).first())) {
      await knex(table).insert(await rows());
      log.info(`Seeded the empty table ${table}`);
    }
  }
}

module.exports = { seedEmptyTables };
