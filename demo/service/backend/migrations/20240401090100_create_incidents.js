// Copyright: The itsm_nexus.runbook contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

exports.up = (knex) =>
  knex.schema.createTable('incidents', (table) => {
    table.increments('id');
    table.string('title', 200).notNullable();
    table.text('description').notNullable().defaultTo('');
    table.string('priority', 16).notNullable().defaultTo('medium');
    table.string('status', 16).notNullable().defaultTo('open').index();
    table.integer('reported_by').references('id').inTable('users');
    table.string('created_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('incidents');
