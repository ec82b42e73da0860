// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.createTable('users', (table) => {
    table.increments('id');
    table.string('username', 64).notNullable().unique();
    table.string('email', 255).notNullable().unique();
    table.string('password_hash', 100).notNullable();
    table.string('role', 16).notNullable().defaultTo('viewer');
    table.string('created_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('users');
