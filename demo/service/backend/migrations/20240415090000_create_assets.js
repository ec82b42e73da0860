// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.createTable('assets', (table) => {
    table.increments('id');
    table.string('tag', 32).notNullable().unique();
    table.string('name', 200).notNullable();
    table.string('kind', 32).notNullable();
    table.integer('owner_id').references('id').inTable('users');
  });

exports.down = (knex) => knex.schema.dropTable('assets');
