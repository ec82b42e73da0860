// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.createTable('audit_logs', (table) => {
    table.increments('id');
    table.string('action', 64).notNullable();
    table.string('entity', 64).notNullable();
    table.integer('entity_id').notNullable();
    table.string('created_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('audit_logs');
